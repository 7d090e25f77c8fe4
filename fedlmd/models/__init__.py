"""The two networks. Each is built from its frozen configuration alone."""

from fedlmd.models.classifier import CNN, Classifier, ClassifierConfig, turned
from fedlmd.models.config import ModelConfig
from fedlmd.models.denoiser import DenoiserConfig, DenoiserNetwork, UNet
from fedlmd.models.ensemble import Ensemble
from fedlmd.models.networks import Networks, NetworksConfig, build
from fedlmd.models.registry import DENOISERS

__all__ = [
    "CNN",
    "DENOISERS",
    "Classifier",
    "ClassifierConfig",
    "DenoiserConfig",
    "DenoiserNetwork",
    "Ensemble",
    "ModelConfig",
    "Networks",
    "NetworksConfig",
    "UNet",
    "build",
    "turned",
]
