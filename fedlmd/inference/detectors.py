"""The detectors of a run, made of its two networks."""

from __future__ import annotations

from fedlmd.calibration import Moments
from fedlmd.detection import (
    DENOISING,
    LMD,
    ClassGaussians,
    Detector,
    DetectorInputs,
    WorkerDenoiser,
    build_detectors,
    explanation_config,
)
from fedlmd.diffusion import Denoiser, Mixture, Schedule
from fedlmd.models import Ensemble, Networks
from fedlmd.settings import Settings


def detector_inputs(settings: Settings, networks: Networks, gaussians: ClassGaussians | None = None) -> DetectorInputs:
    """The inputs of a run's detectors.

    Args:
        settings: of the run.
        networks: that they evaluate.
        gaussians: of known images' embeddings, by class; None before they were fitted.
    """
    if gaussians is not None:
        gaussians = ClassGaussians(*(part.to(networks.device) for part in gaussians))
    schedule = Schedule(settings.schedule)
    union = settings.federation.merge == "union"
    return DetectorInputs(
        settings.detector,
        schedule,
        networks.classifier,
        denoiser_of(networks, schedule),
        gaussians=gaussians,
        workers=worker_denoisers(networks.denoiser) if union and isinstance(networks.denoiser, Ensemble) else (),
    )


def denoiser_of(networks: Networks, schedule: Schedule) -> Denoiser:
    """The single denoiser, or the mixture of several workers' denoisers."""
    denoiser = networks.denoiser
    if isinstance(denoiser, Ensemble):
        return Mixture(list(denoiser.members), schedule, denoiser.shares)
    return denoiser


def worker_denoisers(ensemble: Ensemble) -> list[WorkerDenoiser]:
    """Each worker's denoiser of an ensemble, with the moments of its scores."""
    return [
        WorkerDenoiser(
            member,
            {name: Moments(1, mean, std) for name, mean, std in zip(DENOISING, means, stds, strict=True)},
            shares > 0,
        )
        for member, means, stds, shares in zip(
            ensemble.members, ensemble.means.tolist(), ensemble.stds.tolist(), ensemble.shares, strict=True
        )
    ]


def detectors(settings: Settings, networks: Networks, gaussians: ClassGaussians | None = None) -> dict[str, Detector]:
    """The detectors that a run calibrates, by name. Raises ValueError where one lacks its Gaussians."""
    return build_detectors(settings.detector.calibrated, detector_inputs(settings, networks, gaussians))


def explainer(settings: Settings, networks: Networks) -> LMD:
    """LMD with settings for an explanation, see ``fedlmd.detection.explanation_config``."""
    config = explanation_config(settings.detector.lmd, Schedule(settings.schedule))
    inputs = detector_inputs(settings, networks)
    distance = inputs.distance(config.distance)
    return LMD(inputs.denoiser, inputs.schedule, distance, config, inputs.classify)
