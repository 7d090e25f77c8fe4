"""What a final model says of one site's held-back images, kept between the questions of the calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, final

import torch

from fedlmd.answer import CLASS, VERDICT, examined, proof
from fedlmd.artifacts import Weights
from fedlmd.detection import Moments, Sketch, fuse, moments, scored
from fedlmd.networks import Networks, detectors
from fedlmd.progress import Progress, Result
from fedlmd.settings import Settings
from fedlmd.site import SiteImages
from fedlmd.training import judge

__all__ = ["SiteScores"]

Scale = Mapping[str, Mapping[str, Any]]


@final
class SiteScores:
    """Scores of held-back images and of the self-test's. They stay at the site; moments and sketches leave it.

    Attributes:
        scores: of the held-back images by the detector's name; empty before they were measured.
        losses: cross-entropy of their true labels, nats.
        examined: what the model says of the self-test's images, see ``fedlmd.answer.examined``.
    """

    def __init__(self) -> None:
        self.scores: dict[str, torch.Tensor] = {}
        self.examined: dict[str, torch.Tensor] = {}
        self.losses = torch.empty(0)

    def measure(self, settings: Settings, networks: Networks, images: SiteImages) -> Iterator[Progress | Result]:
        """Score the images; the result is count, mean and deviation of every score.

        "accuracy" (whether the class was right) and "loss" (cross-entropy, nats) on the evaluation images come along in
        the same form, so that they pool in the same way.
        """
        order = torch.randperm(len(images.held_back), generator=torch.Generator().manual_seed(settings.seed))
        chosen = images.held_back.take(order[: settings.calibration.images])
        by_name = detectors(settings, networks)
        found: list[dict[str, torch.Tensor]] = []
        batches = torch.split(chosen.images(), 50)
        for batch in batches:
            found.append(scored(by_name, batch.to(networks.device)))
            yield Progress("calibration", len(found), len(batches))
        self.scores = {name: torch.cat([part[name] for part in found]) for name in by_name}
        self.examined = examined(settings, networks, by_name)
        self.losses = judge(networks.classifier, chosen).loss
        judged = judge(networks.classifier, images.evaluation)
        of = {name: moments(scores) for name, scores in {**self.scores, **judged._asdict()}.items()}
        yield Result({name: asdict(m) for name, m in of.items()})

    def sketches(self, settings: Settings, scale: Scale) -> dict[str, Any]:
        """The sketch of each score, of the fused one on the scale that all sites share, and of the label's loss.

        Raises:
            ValueError: when nothing was measured yet.
        """
        if not self.scores:
            raise ValueError("this site has no scores to give thresholds of; ask for its moments first")
        fused = fuse(self.scores, {name: Moments(**scale[name]) for name in settings.detector.verdict})
        every = {**self.scores, VERDICT: fused, CLASS: self.losses}
        return {name: asdict(Sketch.of(scores)) for name, scores in every.items()}

    def proof(self, settings: Settings, scale: Scale) -> Weights:
        """What the measured weights say of the self-test's images, on the scale that all sites share."""
        return proof(self.examined, settings, {name: Moments(**scale[name]) for name in settings.detector.verdict})

    @property
    def memory(self) -> Weights:
        """All of it as arrays, for a site whose messages go to different processes."""
        every = {"scores": self.scores, "examined": self.examined, "losses": {"": self.losses}}
        return {f"{part}/{name}": of.numpy() for part, named in every.items() for name, of in named.items()}

    def recall(self, memory: Weights) -> None:
        """Know again what ``memory`` was elsewhere."""
        every: dict[str, dict[str, torch.Tensor]] = {"scores": {}, "examined": {}, "losses": {}}
        for key, array in memory.items():
            part, _, name = key.partition("/")
            every[part][name] = torch.from_numpy(array.copy())
        self.scores, self.examined, self.losses = every["scores"], every["examined"], every["losses"][""]
