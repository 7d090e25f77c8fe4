"""Labelled images: where they come from, what they look like, and which worker holds which."""

from fedlmd.data.export import Exported, export
from fedlmd.data.images import (
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    MAX_SIDE,
    DataError,
    ImageError,
    LabelledImages,
    decode_image,
    fit_pixels,
    some,
    to_pixels,
    to_unit_range,
)
from fedlmd.data.partition import PartitionConfig, PartitionKind, partition
from fedlmd.data.sources import Split, label_names, load, split_held_back

__all__ = [
    "IMAGE_FORMATS",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "DataError",
    "Exported",
    "ImageError",
    "LabelledImages",
    "PartitionConfig",
    "PartitionKind",
    "Split",
    "decode_image",
    "export",
    "fit_pixels",
    "label_names",
    "load",
    "partition",
    "some",
    "split_held_back",
    "to_pixels",
    "to_unit_range",
]
