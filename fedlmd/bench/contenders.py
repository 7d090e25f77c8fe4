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
from fedlmd.detection import LMD, PAPER, Detector, OneStep, embedding_distance, mse
from fedlmd.detection.ddpm_ood import DDPMOOD, DDPMOODConfig
from fedlmd.detection.feature_space import KNN, Energy, ViM
from fedlmd.detection.msma import MSMA, MSMAConfig
from fedlmd.detection.path import PathConfig, PathStatistic
from fedlmd.diffusion import Schedule
from fedlmd.networks import Assembly

__all__ = ["FEW", "AnswererScore", "Contender", "Late", "contenders"]


FEW = 1000
"""Images of each kind for detectors of more than ten evaluations per image: enough for three digits of an AUROC."""

FITTED_ON = 300
"""Images that a detector of a hundred evaluations per image is fitted on, and as many of each kind that it scores."""


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


def contenders(answerer: Answerer, in_domain: LabelledImages) -> dict[str, Contender]:
    """Every detector by its name: the release's own, and rivals on the same two networks.

    Args:
        answerer: the release.
        in_domain: images of its labels that no network was trained on, for detectors that are fitted.
    """
    networks, schedule = answerer.networks, Schedule(answerer.settings.schedule)
    denoiser = Assembly(answerer.settings, networks).denoiser
    plain = replace(answerer.settings.detector.one_step, distance="mse", condition="none")
    paper = replace(PAPER, distance="mse")
    found = {name: own(answerer, name) for name in answerer.choices}
    return (
        found
        | feature_rivals(answerer, in_domain)
        | denoiser_rivals(answerer, in_domain)
        | {
            "energy": Contender(Energy(networks.classifier), 0),
            "one-step-plain": Contender(OneStep(denoiser, schedule, mse, plain), len(plain.levels)),
            # Hours for a whole test set: few images say enough of it.
            "lmd-paper": Contender(LMD(denoiser, schedule, mse, paper), paper.evaluations, 20, ("01234",)),
        }
    )


def feature_rivals(answerer: Answerer, in_domain: LabelledImages) -> dict[str, Contender]:
    """Detectors on the features before the classifier's head, fitted when they are first asked."""
    classifier, told = answerer.networks.classifier, len(in_domain)
    # Of a head over labels and views, the part that judges upright images.
    shape = (classifier.config.classes, classifier.config.views, -1)
    weight, bias = (part.detach().reshape(shape)[:, 0] for part in (classifier.head.weight, classifier.head.bias))

    def images() -> Tensor:
        return in_domain.images().to(answerer.networks.device)

    return {
        "knn": Contender(Late(lambda: KNN(classifier.embedding, images()), ("knn", told)), 0),
        "vim": Contender(Late(lambda: ViM(classifier.pooled, images(), weight, bias.flatten()), ("vim", told)), 0),
    }


def denoiser_rivals(answerer: Answerer, in_domain: LabelledImages) -> dict[str, Contender]:
    """Published detectors on the release's own denoiser, fitted when they are first asked."""
    networks, schedule, told = answerer.networks, Schedule(answerer.settings.schedule), len(in_domain)
    denoiser = Assembly(answerer.settings, networks).denoiser
    msma, path, ddpm = MSMAConfig(), PathConfig(), DDPMOODConfig()
    distances = (mse, embedding_distance(networks.classifier.embedding))

    def images() -> Tensor:
        return in_domain.images().to(networks.device)

    def redrawn() -> Detector:
        return DDPMOOD(denoiser, schedule, distances, images()[:FITTED_ON], ddpm)

    return {
        "msma": Contender(Late(lambda: MSMA(denoiser, schedule, images(), msma), (msma, told)), msma.levels, FEW),
        "diffpath": Contender(
            Late(lambda: PathStatistic(denoiser, schedule, images(), path), (path, told)), path.steps, FEW
        ),
        "ddpm-ood": Contender(Late(redrawn, (ddpm, told)), ddpm.evaluations, FITTED_ON),
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
