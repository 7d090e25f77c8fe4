"""The encoders that a run can name; other packages add theirs as entry points of the group ``fedlmd.encoders``."""

from __future__ import annotations

from fedlmd.choices import Registry
from fedlmd.models.encoders.efficientnet import efficientnet
from fedlmd.models.encoders.encoder import EncoderBuilder
from fedlmd.models.encoders.onnx_file import onnx
from fedlmd.models.encoders.pixels import pixels, undecided
from fedlmd.models.encoders.timm_model import timm
from fedlmd.models.encoders.torchscript import torchscript
from fedlmd.models.encoders.transformers_folder import transformers

ENCODERS: Registry[EncoderBuilder] = Registry(
    "encoder",
    "fedlmd.encoders",
    {
        "auto": undecided,
        "pixels": pixels,
        "efficientnet-lite0": efficientnet,
        "torchscript": torchscript,
        "onnx": onnx,
        "timm": timm,
        "transformers": transformers,
    },
)
