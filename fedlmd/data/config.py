"""Where a worker's images come from."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedlmd.choices import between
from fedlmd.data.partition import PartitionConfig


@dataclass(frozen=True)
class DataConfig:
    """Where a worker's images come from.

    Args:
        source: "mnist", a folder of ``<label>/*.png``, or an .npz file; see ``fedlmd.data.load``.
        held_back: share of the training images kept from training, to calibrate with; in (0, 0.5].
        partition: this worker's share of the source, when several workers divide one.
    """

    source: str = "mnist"
    held_back: float = 0.1
    partition: PartitionConfig = field(default_factory=PartitionConfig)

    def __post_init__(self) -> None:
        between(self, 0, 0.5, "held_back", open_low=True)
