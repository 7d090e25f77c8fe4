"""The scores of one worker's held-back images by a final model's detectors, kept between a calibration's queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, final

import torch

from fedlmd.calibration import Moments, Sketch
from fedlmd.data import some
from fedlmd.detection import ClassGaussians, fuse, moments_of, scored
from fedlmd.inference import CLASS, detectors, self_test_outputs, self_test_scores
from fedlmd.models import Networks
from fedlmd.progress import Progress, Result, Work
from fedlmd.release import VERDICT, Weights
from fedlmd.settings import Settings
from fedlmd.training import evaluate_images
from fedlmd.worker.images import WorkerImages

Scale = Mapping[str, Mapping[str, Any]]


@final
class CalibrationScores:
    """Scores of held-back images and outputs for the self-test's. The worker sends only moments and sketches of scores.

    Attributes:
        scores: of the held-back images by the detector's name; empty before they were measured.
        losses: cross-entropy of their true labels, nats.
        self_test: outputs for the self-test's images, see ``fedlmd.inference.self_test_outputs``.
    """

    def __init__(self) -> None:
        self.scores: dict[str, torch.Tensor] = {}
        self.self_test: dict[str, torch.Tensor] = {}
        self.losses = torch.empty(0)

    def measure(
        self, settings: Settings, networks: Networks, gaussians: ClassGaussians | None, images: WorkerImages
    ) -> Work:
        """Score the images; the result is count, mean and standard deviation of every score.

        "accuracy" (whether the class was right) and "loss" (cross-entropy, nats) on the evaluation images have the same
        form, so that they are pooled in the same way.
        """
        chosen = some(images.held_back, settings.calibration.images, settings.seed)
        by_name = detectors(settings, networks, gaussians)
        parts: list[dict[str, torch.Tensor]] = []
        batches = torch.split(chosen.images(), 50)
        for batch in batches:
            parts.append(scored(by_name, batch.to(networks.device)))
            yield Progress("calibration", len(parts), len(batches))
        self.scores = {name: torch.cat([part[name] for part in parts]) for name in by_name}
        self.self_test = self_test_outputs(settings, networks, by_name)
        self.losses = evaluate_images(networks.classifier, chosen).loss
        evaluated = evaluate_images(networks.classifier, images.evaluation)
        measured = {**self.scores, **evaluated._asdict()}
        return Result({name: asdict(moments_of(scores)) for name, scores in measured.items()})

    def sketches(self, settings: Settings, scale: Scale) -> dict[str, Any]:
        """The sketch of each score, of the fused one on the scale that all workers share, and of the label's loss.

        Raises:
            ValueError: when nothing was measured yet.
        """
        if not self.scores:
            raise ValueError("this worker has no scores to give thresholds of; query its moments first")
        fused = fuse(self.scores, {name: Moments(**scale[name]) for name in settings.detector.verdict})
        every = {**self.scores, VERDICT: fused, CLASS: self.losses}
        return {name: asdict(Sketch.of(scores)) for name, scores in every.items()}

    def self_test_scores(self, settings: Settings, scale: Scale) -> Weights:
        """The measured weights' outputs for the self-test's images, on the scale that all workers share."""
        moments = {name: Moments(**scale[name]) for name in settings.detector.verdict}
        return self_test_scores(self.self_test, settings, moments)

    @property
    def arrays(self) -> Weights:
        """The scores as arrays, for a worker whose messages go to different processes."""
        every = {"scores": self.scores, "self_test": self.self_test, "losses": {"": self.losses}}
        return {f"{part}/{name}": tensor.numpy() for part, named in every.items() for name, tensor in named.items()}

    def load(self, arrays: Weights) -> None:
        """Load the ``arrays`` of another process."""
        every: dict[str, dict[str, torch.Tensor]] = {"scores": {}, "self_test": {}, "losses": {}}
        for key, array in arrays.items():
            part, _, name = key.partition("/")
            every[part][name] = torch.from_numpy(array.copy())
        self.scores, self.self_test, self.losses = every["scores"], every["self_test"], every["losses"][""]
