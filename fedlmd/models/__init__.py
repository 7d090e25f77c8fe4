"""The encoder and the two networks behind it. Each is built from its frozen configuration alone."""

from fedlmd.models.classifier import CNN, Classifier, ClassifierConfig, turned
from fedlmd.models.committee import Committee
from fedlmd.models.config import CONTINUING, ModelConfig
from fedlmd.models.denoiser import DenoiserConfig, DenoiserNetwork, UNet
from fedlmd.models.encoders import LEADING, EncoderConfig, EncoderError, load_encoder, shape
from fedlmd.models.ensemble import Ensemble
from fedlmd.models.last_blocks import LastBlocks
from fedlmd.models.latents import LIMIT, LatentEncoder, descriptors
from fedlmd.models.networks import Networks, NetworksConfig, build
from fedlmd.models.registry import DENOISERS

__all__ = [
    "CNN",
    "CONTINUING",
    "DENOISERS",
    "LEADING",
    "LIMIT",
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
    "descriptors",
    "load_encoder",
    "shape",
    "turned",
]
