"""Which worker holds which images: by lists of labels, in equal random shares, or skewed by a Dirichlet draw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from fedlmd.data.images import DataError, LabelledImages, check_labels

__all__ = ["PartitionConfig", "PartitionKind", "partition"]

PartitionKind = Literal["none", "labels", "iid", "dirichlet"]


@dataclass(frozen=True)
class PartitionConfig:
    """How a data set is divided among workers.

    Args:
        kind: one of

            - ``none``: not at all, each worker has the whole data set (what lies on it is its own already);
            - ``labels``: each worker has the labels of its list; workers that list the same label share its images;
            - ``iid``: shuffled shares of equal size;
            - ``dirichlet``: each label is divided in proportions drawn from Dir(alpha) (Yurochkin et al. 2019).
        workers: number of workers, 1 or more.
        lists: for ``labels``, the labels of each worker.
        alpha: for ``dirichlet``, concentration above 0: 0.1 gives nearly each label to one worker, 100 is nearly iid.
        seed: 0 or more; all workers of a run need the same.

    Raises:
        DataError: a value is out of range.
    """

    kind: PartitionKind = "none"
    workers: int = 1
    lists: tuple[tuple[str, ...], ...] = ()
    alpha: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the reason."""
        if self.kind not in get_args(PartitionKind):
            raise DataError(f"there is no partition {self.kind!r}; choose {', '.join(get_args(PartitionKind))}")
        if self.workers < 1:
            raise DataError(f"workers must be 1 or more, not {self.workers}")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise DataError(f"alpha must be a number above 0, not {self.alpha}")
        if self.seed < 0:
            raise DataError(f"seed must be 0 or more, not {self.seed}")
        if self.kind == "labels" and len(self.lists) != self.workers:
            raise DataError(f"{self.workers} workers need {self.workers} lists of labels, not {len(self.lists)}")
        if self.kind == "labels" and not all(self.lists):
            raise DataError(f"each worker needs at least one label, but worker {self.lists.index(())}'s list is empty")


def partition(dataset: LabelledImages, config: PartitionConfig, worker: int) -> LabelledImages:
    """One worker's share of a data set.

    The same data set and configuration give the same division on every machine, so that workers need not talk: no
    image is in two shares, and together the shares hold every image (for ``labels``: every image of a listed label).

    Args:
        dataset: the whole data set, the same for every worker.
        config: how it is divided.
        worker: whose share, 0 to ``config.workers - 1``.

    Returns:
        The share, in the order of the data set and under all of its names.

    Raises:
        DataError: there is no such worker, its share is empty, or a list names an unknown label.
    """
    if not 0 <= worker < config.workers:
        raise DataError(f"there is no worker {worker}; the partition has workers 0 to {config.workers - 1}")
    if config.kind == "none":
        return dataset
    mine = np.flatnonzero(owners(dataset, config) == worker)
    if not len(mine):
        raise DataError(f"worker {worker}'s share has no image; use fewer workers, more images or a larger alpha")
    return dataset.take(mine)


def owners(dataset: LabelledImages, config: PartitionConfig) -> Int64[np.ndarray, " n"]:
    """The worker of each image, or -1: as an image has one owner, shares cannot overlap."""
    owners = np.full(len(dataset), -1, dtype=np.int64)
    if config.kind == "iid":
        owners[np.random.default_rng(config.seed).permutation(len(dataset))] = np.arange(len(dataset)) % config.workers
        return owners
    for listed in config.lists if config.kind == "labels" else ():
        check_labels(listed, dataset.names)
    labels = dataset.labels.numpy()
    for index, name in enumerate(dataset.names):
        # One stream for each label: what another label has or lacks does not change this one's division.
        rng = np.random.default_rng([config.seed, index])
        members = rng.permutation(np.flatnonzero(labels == index))
        if config.kind == "dirichlet":
            owners[members] = dirichlet_owners(len(members), config, rng)
        elif sharing := [worker for worker, names in enumerate(config.lists) if name in names]:
            owners[members] = np.resize(np.array(sharing), len(members))
    return owners


def dirichlet_owners(count: int, config: PartitionConfig, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    proportions = rng.dirichlet(np.full(config.workers, config.alpha))
    ends = np.round(np.cumsum(proportions)[:-1] * count)
    return np.searchsorted(ends, np.arange(count), side="right").astype(np.int64)
