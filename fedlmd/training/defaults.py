"""How the two networks are trained where a run does not say it: on images, and on an encoder's latents."""

from __future__ import annotations

from dataclasses import fields, replace

from fedlmd.data import AUTO
from fedlmd.training.augmentation import AugmentationConfig
from fedlmd.training.loop import TrainingConfig

IMAGES = {
    "classifier": TrainingConfig(
        AUTO,
        passes=30.0,
        fewest=1200,
        most=3000,
        batch_size=128,
        weight_decay=0.1,
        ema=0.99,
        augmentation=AugmentationConfig(12.0, 0.12, 0.12, 0.025),
    ),
    "denoiser": TrainingConfig(AUTO, fewest=3000, most=3000),
}
"""On images. Distortions are within the variation of handwriting."""

LATENTS = {
    "classifier": TrainingConfig(
        AUTO, passes=8.0, fewest=240, most=1000, batch_size=32, augmentation=AugmentationConfig(mirror=True, noise=0.4)
    ),
    "denoiser": TrainingConfig(AUTO, fewest=240, batch_size=32, augmentation=AugmentationConfig(mirror=True)),
}
"""On latents. They need fewer steps: the encoder has learned what images have in common."""

THUMBNAILS = replace(IMAGES["classifier"], passes=18.0, fewest=480, most=1000, batch_size=32)
"""Of the classifier's network of thumbnails, which are images."""


def for_latents(part: str, config: TrainingConfig) -> TrainingConfig:
    """How a network is trained on latents: by what the run says, else by ``LATENTS``.

    Args:
        part: "classifier" or "denoiser".
        config: of the run; what it has in common with ``IMAGES`` nobody chose.
    """
    usual, better = IMAGES[part], LATENTS[part]
    same = [each.name for each in fields(config) if getattr(config, each.name) == getattr(usual, each.name)]
    return replace(config, **{name: getattr(better, name) for name in same})
