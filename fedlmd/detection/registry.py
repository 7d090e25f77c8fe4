"""The detectors that a run can name; other packages add theirs as entry points of the group ``fedlmd.detectors``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

from jaxtyping import Float
from torch import Tensor

from fedlmd.choices import Registry
from fedlmd.detection.detector import Detector
from fedlmd.detection.energy import Energy
from fedlmd.detection.inputs import DetectorInputs
from fedlmd.detection.lmd import LMD
from fedlmd.detection.mahalanobis import Mahalanobis, standardised
from fedlmd.detection.max_logit import MaxLogit
from fedlmd.detection.one_step import OneStep
from fedlmd.diffusion import Denoiser

DetectorBuilder = Callable[[DetectorInputs], Detector]
"""Makes a detector of a run. Raises ValueError where an input is missing."""


def descriptor(inputs: DetectorInputs) -> Detector:
    """The Mahalanobis distance of an encoder's descriptors, each of their entries standardised."""
    if inputs.descriptors is None or inputs.described is None:
        raise ValueError("the detector 'descriptor' needs an encoder, and the Gaussians of known images' descriptors")
    scale, gaussians = standardised(inputs.described)
    read = inputs.descriptors
    return Mahalanobis(lambda latents: read(latents) * scale, gaussians, inputs.config.descriptor_shrinkage)


def one_step(inputs: DetectorInputs) -> Detector:
    """One-step denoising."""
    config = inputs.config.one_step

    def make(denoiser: Denoiser) -> Detector:
        return OneStep(denoiser, inputs.schedule, inputs.distance(config.distance), config, inputs.classify)

    return inputs.over_denoisers("one-step", config.condition, make)


def lmd(inputs: DetectorInputs) -> Detector:
    """Lift, Map, Detect."""
    config = inputs.config.lmd

    def make(denoiser: Denoiser) -> Detector:
        return LMD(denoiser, inputs.schedule, inputs.distance(config.distance), config, inputs.classify)

    return inputs.over_denoisers("lmd", config.condition, make)


DETECTORS: Registry[DetectorBuilder] = Registry(
    "detector",
    "fedlmd.detectors",
    {
        "max-logit": lambda inputs: MaxLogit(inputs.logits),
        "energy": lambda inputs: Energy(inputs.logits),
        "mahalanobis": lambda inputs: inputs.mahalanobis,
        "descriptor": descriptor,
        "thumbnail": lambda inputs: inputs.thumbnail,
        "one-step": one_step,
        "lmd": lmd,
    },
)

DENOISING = ("one-step", "lmd")
"""The detectors that use the denoiser. Where every worker keeps its own, their scores are standardised for each."""


OF_LATENTS = ("descriptor", "thumbnail")
"""The detectors that get latents whole; the others get the part that the networks work on."""


@final
class OfMaps:
    """A detector that gets the part of latents that the networks work on.

    Args:
        detector: the detector.
        maps: latents to that part; cached, so that detectors share what they compute of it.
    """

    def __init__(self, detector: Detector, maps: Callable[[Tensor], Tensor]) -> None:
        self.detector, self.maps = detector, maps

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Scores of latents."""
        return self.detector.score(self.maps(images))


def build_detectors(names: Iterable[str], inputs: DetectorInputs) -> dict[str, Detector]:
    """Detectors by name. Raises ValueError for an unknown one, or one whose inputs are missing."""
    built = {name: DETECTORS[name](inputs) for name in names}
    if inputs.descriptors is None:
        return built
    return {name: each if name in OF_LATENTS else OfMaps(each, inputs.maps) for name, each in built.items()}
