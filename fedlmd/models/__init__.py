"""The two networks. Each is built from its frozen configuration alone."""

from fedlmd.models.classifier import CNN, ClassifierConfig, turned
from fedlmd.models.denoiser import DenoiserConfig, UNet
from fedlmd.models.ensemble import Ensemble

__all__ = ["CNN", "ClassifierConfig", "DenoiserConfig", "Ensemble", "UNet", "turned"]
