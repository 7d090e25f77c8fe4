"""Frozen encoders: what turns images into the maps that both networks work on. Nothing is downloaded."""

from fedlmd.models.encoders.config import EncoderConfig
from fedlmd.models.encoders.efficientnet import LEADING
from fedlmd.models.encoders.encoder import Encoder, EncoderBuilder, EncoderError, EncoderSource, shape
from fedlmd.models.encoders.files import encoders_folder
from fedlmd.models.encoders.loading import load_encoder
from fedlmd.models.encoders.network import NetworkEncoder
from fedlmd.models.encoders.registry import ENCODERS

__all__ = [
    "ENCODERS",
    "LEADING",
    "Encoder",
    "EncoderBuilder",
    "EncoderConfig",
    "EncoderError",
    "EncoderSource",
    "NetworkEncoder",
    "encoders_folder",
    "load_encoder",
    "shape",
]
