"""The scores of one worker's held-back images by a final model's detectors, kept between a calibration's queries."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import HEAT, RIGHT, Moments, Sketch, right_of
from fedlmd.data import DataError, LabelledImages, some
from fedlmd.detection import WEIGHED, Detector, Mahalanobis, build_detectors, fuse, moments_of, scored
from fedlmd.inference import CLASS, detector_inputs, detectors, heat_of_cells, self_test_outputs, self_test_scores
from fedlmd.models import Networks
from fedlmd.progress import Progress, Result, Work
from fedlmd.release import VERDICT, Weights
from fedlmd.settings import Settings
from fedlmd.training import evaluate_images
from fedlmd.worker.images import WorkerImages
from fedlmd.worker.training import of_networks

Scale = Mapping[str, Mapping[str, Any]]

BATCH = 50
"""Images that are scored at once."""

HEATED = 100
"""Held-back images whose heat is measured at most; each takes three evaluations of the denoiser."""

FEWEST = 2
"""Images that a standard deviation needs."""


@final
class CalibrationScores:
    """Scores of held-back images and outputs for the self-test's. The worker sends only moments and sketches of scores.

    Attributes:
        scores: of the held-back images by the detector's name; empty before they were measured.
        evaluated: scores of evaluation images, of the detectors that make the verdict.
        losses: cross-entropy of their true labels, nats.
        self_test: outputs for the self-test's images, see ``fedlmd.inference.self_test_outputs``.
    """

    def __init__(self) -> None:
        self.scores: dict[str, Tensor] = {}
        self.evaluated: dict[str, Tensor] = {}
        self.self_test: dict[str, Tensor] = {}
        self.losses = torch.empty(0)

    def measure(self, settings: Settings, networks: Networks, weights: Weights, images: WorkerImages) -> Work:
        """Score the images, with the Gaussians among the weights.

        The result is count, mean and standard deviation of every score.

        "accuracy" (whether the class was right) and "loss" (cross-entropy, nats) on the evaluation images have the same
        form, so that they are pooled in the same way; and so has what ``of_latents`` measures.
        """
        chosen, others = (
            some(part, settings.calibration.images, settings.seed) for part in (images.held_back, images.evaluation)
        )
        batches, evaluation = (torch.split(part.images(), BATCH) for part in (chosen, others))
        by_name, steps = detectors(settings, networks, weights), len(batches) + len(evaluation)
        self.scores = yield from scored_in_steps(by_name, batches, networks.device, steps)
        self.self_test = self_test_outputs(settings, networks, by_name)
        held_back = evaluate_images(networks.classifier, of_networks(chosen, settings))
        self.losses = held_back.loss
        evaluated = evaluate_images(networks.classifier, of_networks(images.evaluation, settings))
        deciding = {name: by_name[name] for name in settings.detectors.verdict}
        self.evaluated = yield from scored_in_steps(deciding, evaluation, networks.device, steps, len(batches))
        measured = {**self.scores, **evaluated._asdict()}
        if settings.has_latents:
            measured |= {RIGHT: held_back.accuracy, **of_latents(settings, networks, weights, chosen)}
        return Result({name: asdict(moments_of(scores)) for name, scores in measured.items()})

    def sketches(self, settings: Settings, scale: Scale) -> dict[str, Any]:
        """The sketch of each score, of the fused one on the scale that all workers share, and of the label's loss.

        Raises:
            ValueError: when nothing was measured yet.
        """
        if not self.scores:
            raise ValueError("this worker has no scores to give thresholds of; query its moments first")
        fused = fuse(self.scores, moments_of_verdict(settings, scale))
        every = {**self.scores, VERDICT: fused, CLASS: self.losses}
        return {name: asdict(Sketch.of(scores)) for name, scores in every.items()}

    def evaluated_verdict(self, settings: Settings, scale: Scale) -> Float[Tensor, " m"]:
        """The verdict's score of the evaluation images, on the scale that all workers share; in a random order."""
        return fuse(self.evaluated, moments_of_verdict(settings, scale))

    def evaluation_sketch(self, settings: Settings, scale: Scale) -> dict[str, Any]:
        """The sketch of the verdict's score of at most as many evaluation images as held-back ones were scored.

        Each worker then counts as much among the evaluation images of all workers as among the held-back ones.
        """
        most = len(self.losses)
        return asdict(Sketch.of(self.evaluated_verdict(settings, scale)[:most]))

    def self_test_scores(self, settings: Settings, scale: Scale) -> Weights:
        """The measured weights' outputs for the self-test's images, on the scale that all workers share."""
        return self_test_scores(self.self_test, settings, moments_of_verdict(settings, scale))

    @property
    def arrays(self) -> Weights:
        """The scores as arrays, for a worker whose messages go to different processes."""
        every = {"scores": self.scores, "evaluated": self.evaluated, "self_test": self.self_test}
        every["losses"] = {"": self.losses}
        return {f"{part}/{name}": tensor.numpy() for part, named in every.items() for name, tensor in named.items()}

    def load(self, arrays: Weights) -> None:
        """Load the ``arrays`` of another process."""
        every: dict[str, dict[str, Tensor]] = {"scores": {}, "evaluated": {}, "self_test": {}, "losses": {}}
        for key, array in arrays.items():
            part, _, name = key.partition("/")
            every[part][name] = torch.from_numpy(array.copy())
        self.scores, self.evaluated, self.self_test = every["scores"], every["evaluated"], every["self_test"]
        self.losses = every["losses"][""]


def scored_in_steps(
    by_name: Mapping[str, Detector], batches: Sequence[Tensor], device: torch.device, steps: int, before: int = 0
) -> Generator[Progress, None, dict[str, Tensor]]:
    """Score batches of images, one or more, as a part of so many steps, after those ``before``; returns all scores."""
    parts = []
    for done, batch in enumerate(batches, before + 1):
        parts.append(scored(by_name, batch.to(device)))
        yield Progress("calibration", done, steps)
    return {name: torch.cat([part[name] for part in parts]) for name in by_name}


def refuse_unmeasurable(name: str, images: WorkerImages, held_back: float) -> None:
    """Refuse a worker's images of which too few are held back or for evaluation to measure anything.

    Args:
        name: the worker's.
        images: the worker's.
        held_back: the share of each label that was held back.

    Raises:
        DataError: with the numbers.
    """
    kept, evaluated = len(images.held_back), len(images.evaluation)
    if min(kept, evaluated) < FEWEST:
        raise DataError(
            f"{name} has {len(images.training) + kept} images to train with, of which {kept} are held back for "
            f"calibration, and {evaluated} to evaluate on; at least {FEWEST} of each are needed: add images, or raise "
            f"data.held_back (now {held_back:g} of each label, rounded) or data.evaluation"
        )


def moments_of_verdict(settings: Settings, scale: Scale) -> dict[str, Moments]:
    """The moments by which the scores that make the verdict are standardised, see ``DetectorConfig.scaled``."""
    shares = [RIGHT, *map(right_of, WEIGHED)]
    names = [*settings.detectors.verdict, *(name for name in shares if name in scale)]
    return settings.detectors.scaled({name: Moments(**scale[name]) for name in names})


def of_latents(settings: Settings, networks: Networks, weights: Weights, images: LabelledImages) -> dict[str, Tensor]:
    """What is measured of held-back latents alone.

    Returns:
        "heat": of the cells of at most ``HEATED`` images; and of the detectors of ``WEIGHED`` that the run calibrates,
        under the name that ``right_of`` gives: 1 for each image whose nearest class is its own, else 0.
    """
    inputs, device = detector_inputs(settings, networks, weights), networks.device
    batches = torch.split(some(images, HEATED, settings.seed).images(), BATCH)
    heat = [heat_of_cells(settings, inputs, inputs.maps(batch.to(device))).flatten().cpu() for batch in batches]
    weighed = build_detectors([name for name in WEIGHED if name in settings.detectors.calibrated], inputs)
    right = {
        right_of(name): nearest_right(detector, images, device)
        for name, detector in weighed.items()
        if isinstance(detector, Mahalanobis)
    }
    return {HEAT: torch.cat(heat), **right}


def nearest_right(detector: Mahalanobis, images: LabelledImages, device: torch.device) -> Float[Tensor, " n"]:
    """1 for each image whose nearest class is its own, else 0."""
    batches = torch.split(images.images(), BATCH)
    nearest = torch.cat([detector.nearest(batch.to(device)).cpu() for batch in batches])
    return (nearest == images.labels).float()
