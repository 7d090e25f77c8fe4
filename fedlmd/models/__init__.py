"""The encoder and the two networks behind it. Each is built from its frozen configuration alone."""

from fedlmd.models.classifier import CNN, Classifier, ClassifierConfig, turned
from fedlmd.models.committee import Committee
from fedlmd.models.config import CONTINUING, WITH_THUMBNAIL, ModelConfig
from fedlmd.models.denoiser import DenoiserConfig, DenoiserNetwork, UNet
from fedlmd.models.encoders import LEADING, EncoderConfig, EncoderError, load_encoder, shape
from fedlmd.models.ensemble import Ensemble
from fedlmd.models.last_blocks import LastBlocks
from fedlmd.models.latents import LIMIT, LatentEncoder, cells_to_pixels, descriptors, pixels_to_cells
from fedlmd.models.networks import Networks, NetworksConfig, build
from fedlmd.models.registry import DENOISERS

__all__ = [
    "CNN",
    "CONTINUING",
    "DENOISERS",
    "LEADING",
    "LIMIT",
    "WITH_THUMBNAIL",
    "Classifier",
    "ClassifierConfig",
    "Committee",
    "DenoiserConfig",
    "DenoiserNetwork",
    "EncoderConfig",
    "EncoderError",
    "Ensemble",
    "LastBlocks",
    "LatentEncoder",
    "ModelConfig",
    "Networks",
    "NetworksConfig",
    "UNet",
    "build",
    "cells_to_pixels",
    "descriptors",
    "load_encoder",
    "pixels_to_cells",
    "shape",
    "turned",
]
