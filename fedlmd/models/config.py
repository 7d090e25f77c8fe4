"""Sizes of the two networks, as a run sets them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedlmd.models.registry import CLASSIFIERS, DENOISERS

AUTO = "auto"

PIXELS: dict[str, Any] = {
    "classifier": (32, 64, 96),
    "denoiser": (64, 64),
    "views": 4,
    "head": "fixed",
    "classifier_network": "cnn",
}
LATENTS: dict[str, Any] = PIXELS | {"views": 1, "head": "learned"}
"""What "auto" stands for, by what the networks work on."""

CONTINUING = ("blocks", "cnn+blocks")
"""Classifiers that have the blocks behind the maps of the encoder "efficientnet-lite0"; they know one view."""

WITH_THUMBNAIL = ("cnn+blocks",)
"""Classifiers that get a thumbnail of the image beside its latents."""


@dataclass(frozen=True)
class ModelConfig:
    """Which networks, and their widths; images, channels and labels are the run's.

    "auto" is replaced by what suits the run's encoder, see ``chosen``.

    Args:
        classifier: channels of the classifier's stages, or "auto".
        denoiser: channels of the denoiser's resolutions, or "auto".
        blocks: residual blocks of each of the denoiser's resolutions.
        views: views that the classifier distinguishes, 1 or 4, or "auto".
        head: the classifier's last layer is "fixed" as it begins, or "learned", or "auto".
        classifier_network: a name of ``fedlmd.models.CLASSIFIERS``, or "auto"; "blocks" and "cnn+blocks" continue the
            encoder "efficientnet-lite0".
        denoiser_network: a name of ``fedlmd.models.DENOISERS``.
        denoiser_options: further settings of the denoiser's network; the default one has none.
    """

    classifier: tuple[int, ...] | str = AUTO
    denoiser: tuple[int, ...] | str = AUTO
    blocks: int = 1
    views: int | str = AUTO
    head: Literal["auto", "fixed", "learned"] = "auto"
    classifier_network: str = AUTO
    denoiser_network: str = "unet"
    denoiser_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classifier_network != AUTO:
            CLASSIFIERS.check(self.classifier_network)
        DENOISERS.check(self.denoiser_network)
        for name in ("classifier", "denoiser", "views"):
            value = getattr(self, name)
            if isinstance(value, str) and value != AUTO:
                words = "1, 4" if name == "views" else "a list of whole numbers"
                raise ValueError(f'{name} is {value!r}; it is {words} or "auto"')
        if self.classifier_network in CONTINUING and self.views not in (AUTO, 1):
            raise ValueError(f"views is {self.views}; with the classifier {self.classifier_network!r} it is 1")

    def chosen(self, *, latents: bool, continues: bool = False) -> ModelConfig:
        """The same without "auto".

        Args:
            latents: whether the networks work on an encoder's latents rather than on images.
            continues: whether the classifier can have the blocks behind the encoder's maps.
        """
        values = dict(LATENTS if latents else PIXELS)
        if continues and self.views in (AUTO, 1):
            values["classifier_network"] = "cnn+blocks"
        if self.classifier_network in CONTINUING:
            values["views"] = 1
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) == AUTO})
