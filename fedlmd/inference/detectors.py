"""The detectors of a run, made of its two networks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import DESCRIBED, THUMBNAILS, Moments
from fedlmd.detection import (
    DENOISING,
    LMD,
    ClassGaussians,
    Detector,
    DetectorInputs,
    WorkerDenoiser,
    build_detectors,
    class_gaussians,
    explanation_config,
    mse,
    residual_heat,
)
from fedlmd.diffusion import Denoiser, Mixture, Schedule
from fedlmd.models import Ensemble, Networks, descriptors
from fedlmd.settings import Settings


def detector_inputs(settings: Settings, networks: Networks, weights: Mapping[str, Any] | None = None) -> DetectorInputs:
    """The inputs of a run's detectors.

    Args:
        settings: of the run.
        networks: that they evaluate.
        weights: of the release, which hold the Gaussians of known images; None before these were fitted.

    Raises:
        ValueError: when the Gaussians are broken.
    """
    given = [class_gaussians(weights or {}, before) for before in ("", DESCRIBED, THUMBNAILS)]
    device = networks.device
    gaussians, described, thumbnails = (each and ClassGaussians(*(part.to(device) for part in each)) for each in given)
    schedule = settings.noise
    union = settings.federation.merge == "union"
    return DetectorInputs(
        settings.detectors,
        schedule,
        networks.classifier,
        denoiser_of(networks, schedule),
        gaussians=gaussians,
        descriptors=partial(descriptors, config=settings.encoder) if settings.has_latents else None,
        channels=settings.encoder.channels if settings.has_latents else None,
        described=described,
        thumbnails=thumbnails,
        workers=worker_denoisers(networks.denoiser) if union and isinstance(networks.denoiser, Ensemble) else (),
    )


@torch.inference_mode()
def heat_of_cells(
    settings: Settings, inputs: DetectorInputs, latents: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b h w"]:
    """How far each cell of latents is from its posterior mean, squared; see ``fedlmd.detection.residual_heat``."""
    label = inputs.classify(latents) if settings.detector.lmd.condition == "predicted" else None
    return residual_heat(latents, inputs.denoiser, inputs.schedule, label).square()


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


def detectors(settings: Settings, networks: Networks, weights: Mapping[str, Any] | None = None) -> dict[str, Detector]:
    """The detectors that a run calibrates, by name. Raises ValueError where one lacks its Gaussians."""
    names = settings.detectors.calibrated
    return build_detectors(names, detector_inputs(settings, networks, weights))


def explainer(settings: Settings, networks: Networks) -> LMD:
    """LMD with settings for an explanation, see ``fedlmd.detection.explanation_config``."""
    config = explanation_config(settings.detector.lmd, settings.noise)
    inputs = detector_inputs(settings, networks)
    return LMD(inputs.denoiser, inputs.schedule, mse, config, inputs.classify)  # no distance is measured
