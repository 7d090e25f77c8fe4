"""The networks that a run can name; other packages add theirs as entry points of the groups below."""

from __future__ import annotations

from fedlmd.choices import Registry
from fedlmd.models.classifier import CNN, Classifier
from fedlmd.models.committee import Committee
from fedlmd.models.denoiser import DenoiserNetwork, UNet
from fedlmd.models.interchange import DiffusersDenoiser
from fedlmd.models.last_blocks import LastBlocks

CLASSIFIERS: Registry[type[Classifier]] = Registry(
    "classifier", "fedlmd.classifiers", {"cnn": CNN, "blocks": LastBlocks, "cnn+blocks": Committee}
)
DENOISERS: Registry[type[DenoiserNetwork]] = Registry(
    "denoiser", "fedlmd.denoisers", {"unet": UNet, "diffusers": DiffusersDenoiser}
)
