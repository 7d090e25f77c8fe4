"""Labelled images: where they come from, what they look like, and which worker holds which."""

from fedlmd.data.config import DataConfig
from fedlmd.data.export import export
from fedlmd.data.images import (
    MAX_PIXELS,
    DataError,
    LabelledImages,
    decode_image,
    some,
    to_pixels,
    to_unit_range,
)
from fedlmd.data.partition import PartitionConfig, partition
from fedlmd.data.sources import Split, label_names, load, split_held_back

__all__ = [
    "MAX_PIXELS",
    "DataConfig",
    "DataError",
    "LabelledImages",
    "PartitionConfig",
    "Split",
    "decode_image",
    "export",
    "label_names",
    "load",
    "partition",
    "some",
    "split_held_back",
    "to_pixels",
    "to_unit_range",
]
