"""Labelled images: where they come from, how pixels are made of them, and which worker holds which."""

from fedlmd.data.catalogue import Catalogue, Part, PassedOver
from fedlmd.data.check.check import CheckReport, check
from fedlmd.data.check.findings import CheckConfig
from fedlmd.data.choice import Choice, choose_rules
from fedlmd.data.config import AUTO, DataConfig, ImagesConfig
from fedlmd.data.decoding import Encode, Loading
from fedlmd.data.export import export
from fedlmd.data.facts import Facts
from fedlmd.data.formats import FORMATS, MAX_PIXELS, SUFFIXES, Raw
from fedlmd.data.images import DataError, LabelledImages, as_float, some, to_pixels, to_unit_range
from fedlmd.data.labels import normal_label
from fedlmd.data.layouts.splits import Split
from fedlmd.data.partition import PartitionConfig, partition, share_indices, split_held_back
from fedlmd.data.pixel_rules import PixelRules, convert, decode_image
from fedlmd.data.sources import evaluation_split, label_names, load, loading, scan
from fedlmd.data.survey import Survey, survey

__all__ = [
    "AUTO",
    "FORMATS",
    "MAX_PIXELS",
    "SUFFIXES",
    "Catalogue",
    "CheckConfig",
    "CheckReport",
    "Choice",
    "DataConfig",
    "DataError",
    "Encode",
    "Facts",
    "ImagesConfig",
    "LabelledImages",
    "Loading",
    "Part",
    "PartitionConfig",
    "PassedOver",
    "PixelRules",
    "Raw",
    "Split",
    "Survey",
    "as_float",
    "check",
    "choose_rules",
    "convert",
    "decode_image",
    "evaluation_split",
    "export",
    "label_names",
    "load",
    "loading",
    "normal_label",
    "partition",
    "scan",
    "share_indices",
    "some",
    "split_held_back",
    "survey",
    "to_pixels",
    "to_unit_range",
]
