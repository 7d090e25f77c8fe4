"""The detectors that the benchmark compares on one release: the release's own, and baselines on the same networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.baselines.ddpm_ood import DDPMOOD, DDPMOODConfig
from benchmarks.baselines.diffpath import DiffPath, DiffPathConfig
from benchmarks.baselines.knn import KNN
from benchmarks.baselines.msma import MSMA, MSMAConfig
from benchmarks.baselines.vim import ViM
from fedlmd.data import LabelledImages
from fedlmd.detection import LMD, PAPER, Detector, Energy, OneStep, embedding_distance, mse
from fedlmd.diffusion import Schedule
from fedlmd.inference import Predictor
from fedlmd.release import VERDICT

FEW = 1000
"""Images of each kind for detectors of more than ten evaluations per image: enough for three digits of an AUROC."""

FITTED_ON = 300
"""Images that a detector of a hundred evaluations per image is fitted on, and as many of each kind that it scores."""


@dataclass(frozen=True)
class BaselineConfig:
    """The settings of the published detectors on the denoiser, by default those that are measured.

    Args:
        msma: of multiscale score matching.
        diffpath: of DiffPath.
        ddpm_ood: of DDPM-OOD.
    """

    msma: MSMAConfig = field(default_factory=MSMAConfig)
    diffpath: DiffPathConfig = field(default_factory=DiffPathConfig)
    ddpm_ood: DDPMOODConfig = field(default_factory=DDPMOODConfig)


@dataclass(frozen=True)
class MeasuredDetector:
    """A detector, and how it is measured.

    Args:
        detector: what scores.
        evaluations: network evaluations per image at most; how many it takes is counted. Sets the size of batches.
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
        described = "\n".join([kind, repr(getattr(self.detector, "config", None)), self.settings])
        return hashlib.sha256(described.encode()).hexdigest()[:12]


@final
class ReleaseScore:
    """One of the scores of a release, by its name.

    Args:
        predictor: the release.
        name: one of its ``choices``.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        self.predictor, self.name = predictor, name
        self.config = (name, predictor.settings.detectors)

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The score of that name."""
        return self.predictor.scores(images, [self.name])[self.name]


@final
class LazyDetector:
    """A detector that is built, and fitted, at its first call: a benchmark that is continued calls few of them.

    Args:
        build: makes the detector.
        config: its settings.
    """

    def __init__(self, build: Callable[[], Detector], config: object) -> None:
        self.build, self.config = build, config
        self.detector: Detector | None = None

    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """The detector's scores."""
        if self.detector is None:
            self.detector = self.build()
        return self.detector.score(images)


def measured_detectors(
    predictor: Predictor, in_domain: LabelledImages, baselines: BaselineConfig | None = None
) -> dict[str, MeasuredDetector]:
    """Every detector by its name: the release's own, and baselines on the same two networks.

    Args:
        predictor: the release.
        in_domain: images of its labels that no network was trained on, for detectors that are fitted.
        baselines: settings of the published ones on the denoiser; None for the default.
    """
    inputs = predictor.inputs
    plain = replace(predictor.settings.detectors.one_step, distance="mse", condition="none")
    paper = replace(PAPER, distance="mse")
    return (
        {name: release_detector(predictor, name) for name in predictor.choices}
        | feature_baselines(predictor, in_domain)
        | denoiser_baselines(predictor, in_domain, baselines or BaselineConfig())
        | {
            "energy": MeasuredDetector(Energy(predictor.networks.classifier), 0),
            "one-step-plain": MeasuredDetector(
                OneStep(inputs.denoiser, inputs.schedule, mse, plain), len(plain.levels)
            ),
            # Hours for a whole test set: few images are enough.
            "lmd-paper": MeasuredDetector(
                LMD(inputs.denoiser, inputs.schedule, mse, paper), paper.evaluations, 20, ("01234",)
            ),
        }
    )


def feature_baselines(predictor: Predictor, in_domain: LabelledImages) -> dict[str, MeasuredDetector]:
    """Detectors on the features before the classifier's head, fitted at their first call."""
    classifier, count = predictor.networks.classifier, len(in_domain)
    # Of a head over labels and views, the part for upright images.
    shape = (classifier.config.classes, classifier.config.views, -1)
    weight, bias = (part.detach().reshape(shape)[:, 0] for part in (classifier.head.weight, classifier.head.bias))

    def images() -> Tensor:
        return in_domain.images().to(predictor.networks.device)

    def knn() -> Detector:
        return KNN(classifier.embedding, images())

    def vim() -> Detector:
        return ViM(classifier.pooled, images(), weight, bias.flatten())

    return {
        "knn": MeasuredDetector(LazyDetector(knn, ("knn", count)), 0),
        "vim": MeasuredDetector(LazyDetector(vim, ("vim", count)), 0),
    }


def denoiser_baselines(
    predictor: Predictor, in_domain: LabelledImages, config: BaselineConfig
) -> dict[str, MeasuredDetector]:
    """Published detectors on the release's own denoiser, fitted at their first call."""
    networks, schedule, count = predictor.networks, Schedule(predictor.settings.schedule), len(in_domain)
    denoiser = predictor.inputs.denoiser
    msma, diffpath, ddpm = config.msma, config.diffpath, config.ddpm_ood
    distances = (mse, embedding_distance(networks.classifier.embedding))

    def images() -> Tensor:
        return in_domain.images().to(networks.device)

    builders: dict[str, Callable[[], Detector]] = {
        "msma": lambda: MSMA(denoiser, schedule, images(), msma),
        "diffpath": lambda: DiffPath(denoiser, schedule, images(), diffpath),
        "ddpm-ood": lambda: DDPMOOD(denoiser, schedule, distances, images()[:FITTED_ON], ddpm),
    }
    return {
        "msma": MeasuredDetector(LazyDetector(builders["msma"], (msma, count)), msma.levels, FEW),
        "diffpath": MeasuredDetector(LazyDetector(builders["diffpath"], (diffpath, count)), diffpath.steps, FEW),
        "ddpm-ood": MeasuredDetector(LazyDetector(builders["ddpm-ood"], (ddpm, count)), ddpm.evaluations, FITTED_ON),
    }


def release_detector(predictor: Predictor, name: str) -> MeasuredDetector:
    """One of the release's own scores; the verdict scores all images whatever that costs, as it is what decides."""
    config = predictor.settings.detectors
    evaluations = {"one-step": len(config.one_step.levels), "lmd": config.lmd.evaluations}
    if name == VERDICT:
        scale = repr([predictor.scale[part] for part in config.verdict])
        total = sum(evaluations.get(part, 0) for part in config.verdict)
        return MeasuredDetector(ReleaseScore(predictor, name), total, settings=scale)
    count = evaluations.get(name, 0)
    return MeasuredDetector(ReleaseScore(predictor, name), count, FEW if count > 10 else None)
