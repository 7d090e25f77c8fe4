"""The detectors that the benchmark compares on one release."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.answer import VERDICT, Answerer
from fedlmd.data import LabelledImages
from fedlmd.detection import LMD, PAPER, Detector, OneStep, mse
from fedlmd.detection.feature_space import Energy
from fedlmd.diffusion import Schedule

__all__ = ["FEW", "AnswererScore", "Contender", "Late", "contenders"]


FEW = 1000
"""Images of each kind for detectors of more than ten evaluations per image: enough for three digits of an AUROC."""


@dataclass(frozen=True)
class Contender:
    """A detector that takes part.

    Args:
        detector: what scores.
        evaluations: network evaluations per image at most; how many it takes is counted. Batches go by it.
        sample: at most so many images of each kind are scored; None scores all.
        tasks: names of the tasks that it takes part in; None takes part in all.
        settings: whatever determines the scores beside the release and the detector's own ``config``.
    """

    detector: Detector
    evaluations: int | float
    sample: int | None = None
    tasks: tuple[str, ...] | None = None
    settings: str = ""

    @property
    def identity(self) -> str:
        """Digest of what determines the scores beside the release: kind and settings of the detector."""
        kind = type(self.detector).__qualname__
        told = "\n".join([kind, repr(getattr(self.detector, "config", None)), self.settings])
        return hashlib.sha256(told.encode()).hexdigest()[:12]


@final
class AnswererScore:
    """One of the scores that a release answers with, by its name.

    Args:
        answerer: the release.
        name: one of its ``choices``.
    """

    def __init__(self, answerer: Answerer, name: str) -> None:
        self.answerer, self.name = answerer, name
        self.config = (name, answerer.settings.detector)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The score of that name."""
        return self.answerer.scores(images, [self.name])[self.name]


@final
class Late:
    """A detector that is made, and fitted, when it is first asked: a benchmark that goes on asks few of them.

    Args:
        make: gives the detector.
        config: its settings.
    """

    def __init__(self, make: Callable[[], Detector], config: object) -> None:
        self.make, self.config = make, config
        self.made: Detector | None = None

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The detector's scores."""
        if self.made is None:
            self.made = self.make()
        return self.made.score(images)


def contenders(answerer: Answerer, in_domain: LabelledImages) -> dict[str, Contender]:  # noqa: ARG001
    """Every detector by its name: the release's own, and rivals on the same two networks.

    Args:
        answerer: the release.
        in_domain: images of its labels that no network was trained on, for detectors that are fitted.
    """
    networks, schedule = answerer.networks, Schedule(answerer.settings.schedule)
    plain = replace(answerer.settings.detector.one_step, distance="mse", condition="none")
    paper = replace(PAPER, distance="mse")
    found = {name: own(answerer, name) for name in answerer.choices}
    return found | {
        "energy": Contender(Energy(networks.classifier), 0),
        "one-step-plain": Contender(OneStep(networks.denoiser, schedule, mse, plain), len(plain.levels)),
        # Hours for a whole test set: few images say enough of it.
        "lmd-paper": Contender(LMD(networks.denoiser, schedule, mse, paper), paper.evaluations, 20, ("01234",)),
    }


def own(answerer: Answerer, name: str) -> Contender:
    """One of the release's own scores. All images are given to the verdict, whatever it costs: it is what counts."""
    config = answerer.settings.detector
    of = {"max-logit": 0, "one-step": len(config.one_step.levels), "lmd": config.lmd.evaluations}
    if name == VERDICT:
        scale = repr([answerer.scale[part] for part in config.verdict])
        return Contender(AnswererScore(answerer, name), sum(of.get(part, 0) for part in config.verdict), settings=scale)
    evaluations = of.get(name, 0)
    return Contender(AnswererScore(answerer, name), evaluations, FEW if evaluations > 10 else None)
