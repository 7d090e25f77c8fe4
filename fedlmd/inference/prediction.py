"""The prediction of one image, and its explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Bool, Float
from torch import Tensor

from fedlmd.calibration import Verdict


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The prediction of one image."""

    # The REST service describes its responses by these fields and their docstrings.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    prediction: int | str
    """The most probable label: a number where the label is a whole number's text, such as a digit; otherwise the
    label's text."""
    is_ood: bool
    """Whether the image is called unknown: `score` exceeds `threshold`, and so `p_value` is at most `alpha`."""
    probabilities: dict[str, float]
    """Of each label, summing to 1, under the assumption that the image is of a known label."""
    score: float
    """The OOD score that decided; higher is further from the known images."""
    threshold: float | None
    """The score above which an image is called unknown; null (none is) where the calibration has too few images for so
    small an `alpha`."""
    p_value: float
    """Share of known images with at least this OOD score, the image itself counted, in (0, 1]."""
    alpha: float
    """Share of known images that may be called unknown."""
    detector: str
    """Name of the score that decided."""
    scores: dict[str, float]
    """Every score that was computed, by its name."""
    release: str
    """Id of the release."""
    verdict: Verdict
    """`unknown` where `is_ood`; `known` where the OOD score is low and one label alone is plausible; `uncertain`
    elsewhere: a person should look."""

    @property
    def label(self) -> str:
        """The most probable label as text."""
        return str(self.prediction)


@dataclass(frozen=True)
class Redrawings:
    """What the diffusion model made of one image.

    Args:
        keep: masks (R, 1, H, W), True where the image stayed visible.
        reconstructions: (R, C, H, W) in [-1, 1].
        median: (C, H, W), per pixel the median of the reconstructions in which it was masked.
    """

    keep: Bool[Tensor, "r 1 h w"]
    reconstructions: Float[Tensor, "r c h w"]
    median: Float[Tensor, "c h w"]


@dataclass(frozen=True)
class Explanation:
    """Where one image differs from what the diffusion model makes of it.

    Args:
        heat: (H, W), 0 or more: how far the image is from the median reconstruction, beyond the spread of all; at most
            4 for pixels. That of latents counts beyond the mean and one standard deviation of known images' cells, and
            is enlarged to the image's size.
        redrawn_as: the label that the reconstructions were conditioned on; None for the unconditional map.
        redrawings: of an image itself; None where the model redraws an encoder's latents, which cannot be shown.
        brightest: heat that is drawn brightest; the same for all images of a release.
    """

    heat: Float[Tensor, "h w"]
    redrawn_as: str | None
    redrawings: Redrawings | None = None
    brightest: float = 1.0


def as_number(label: str) -> int | str:
    """A label that is a whole number's text as that number: "7" is 7, but "07" stays text."""
    digits = label.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) < 16
    return int(label) if plain and str(int(label)) == label else label
