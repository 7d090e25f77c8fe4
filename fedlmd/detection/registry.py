"""The detectors that a run can name; other packages add theirs as entry points of the group ``fedlmd.detectors``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fedlmd.choices import Registry
from fedlmd.detection.detector import Detector
from fedlmd.detection.energy import Energy
from fedlmd.detection.features import l2_normalised
from fedlmd.detection.inputs import DetectorInputs
from fedlmd.detection.lmd import LMD
from fedlmd.detection.mahalanobis import Mahalanobis
from fedlmd.detection.max_logit import MaxLogit
from fedlmd.detection.one_step import OneStep
from fedlmd.diffusion import Denoiser

DetectorBuilder = Callable[[DetectorInputs], Detector]
"""Makes a detector of a run. Raises ValueError where an input is missing."""


def mahalanobis(inputs: DetectorInputs) -> Detector:
    """The Mahalanobis distance of the L2-normalised embedding."""
    if inputs.gaussians is None:
        raise ValueError("the detector 'mahalanobis' needs the Gaussians of known images' embeddings")
    return Mahalanobis(l2_normalised(inputs.embedding), inputs.gaussians, inputs.config.shrinkage)


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
        "mahalanobis": mahalanobis,
        "one-step": one_step,
        "lmd": lmd,
    },
)

DENOISING = ("one-step", "lmd")
"""The detectors that use the denoiser. Where every worker keeps its own, their scores are standardised for each."""


def build_detectors(names: Iterable[str], inputs: DetectorInputs) -> dict[str, Detector]:
    """Detectors by name. Raises ValueError for an unknown one, or one whose inputs are missing."""
    return {name: DETECTORS[name](inputs) for name in names}
