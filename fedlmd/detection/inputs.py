"""The inputs of a run's detectors: callables and plain data, no network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, final, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedlmd.calibration import Moments
from fedlmd.detection.config import DetectorConfig
from fedlmd.detection.detector import Detector
from fedlmd.detection.distances import (
    Distance,
    DistanceKind,
    LastCallCache,
    deep_feature,
    embedding_distance,
    lpips_distance,
    mse,
    ssim_distance,
)
from fedlmd.detection.features import Features, l2_normalised
from fedlmd.detection.lmd import Condition
from fedlmd.detection.mahalanobis import ClassGaussians, Mahalanobis, mahalanobis_distance
from fedlmd.detection.union import Union
from fedlmd.diffusion import Denoiser, Schedule


@final
@dataclass(frozen=True, eq=False)
class WorkerDenoiser:
    """The denoiser of one worker, where every worker's was kept.

    Args:
        denoiser: the network.
        moments: of its scores of the worker's held-back images, by the detector's name.
        holds: of each label (C,), whether the worker has images of it.
    """

    denoiser: Denoiser
    moments: dict[str, Moments]
    holds: Bool[Tensor, " c"]


@runtime_checkable
class Classifier(Protocol):
    """What the detectors need of a classifier; ``fedlmd.models.Classifier`` has it."""

    def embedding(self, images: Float[Tensor, "b c h w"], /) -> Float[Tensor, "b _e"]:
        """What the head receives of all views of each image."""

    def logits(self, embedding: Float[Tensor, "b _e"], /) -> Float[Tensor, "b k"]:
        """Logits of each label from embeddings."""

    def unit_length(self, embedding: Float[Tensor, "b _e"], /) -> Float[Tensor, "b _e"]:
        """Embeddings scaled to unit length."""

    def stages_embedding(self, images: Float[Tensor, "b c h w"], /) -> Float[Tensor, "b _e"]:
        """The pooled feature maps of every stage."""

    def thumbnail_embedding(self, images: Float[Tensor, "b c h w"], /) -> Float[Tensor, "b _e"]:
        """The embedding of the thumbnails beside latents, scaled to unit length."""

    def maps(self, images: Float[Tensor, "b c h w"], /) -> Sequence[Float[Tensor, "b _c _h _w"]]:
        """Feature maps of every stage, finest first."""


@final
class DetectorInputs:
    """The inputs of the functions that build detectors.

    Attributes:
        embedding: images to embeddings. The last value is cached: all detectors use the embedding of the same images.
        maps: latents to the part of them that the networks work on; cached likewise. Images are their own maps.

    Args:
        config: the run's detector settings.
        schedule: the denoiser's noise levels.
        classifier: the run's.
        denoiser: the single denoiser, or the mixture of the workers'.
        gaussians: of known images' embeddings; None before they were fitted.
        descriptors: latents to an encoder's descriptors; None without an encoder.
        channels: of the latents that the networks work on; None for all.
        described: Gaussians of known images' descriptors; None before they were fitted, and without an encoder.
        thumbnails: Gaussians of the embeddings of known images' thumbnails; None where there are none.
        workers: each worker's denoiser, where detectors are combined rather than denoisers; see ``Union``.
    """

    def __init__(  # noqa: PLR0913 - each is an input of its own
        self,
        config: DetectorConfig,
        schedule: Schedule,
        classifier: Classifier,
        denoiser: Denoiser,
        *,
        gaussians: ClassGaussians | None = None,
        descriptors: Features | None = None,
        channels: int | None = None,
        described: ClassGaussians | None = None,
        thumbnails: ClassGaussians | None = None,
        workers: Sequence[WorkerDenoiser] = (),
    ) -> None:
        self.config, self.schedule, self.denoiser = config, schedule, denoiser
        self.classifier, self.gaussians = classifier, gaussians
        self.descriptors, self.described, self.thumbnails = descriptors, described, thumbnails
        self.workers = tuple(workers)
        self.embedding = LastCallCache[Tensor](classifier.embedding)
        self.maps = LastCallCache[Tensor](lambda latents: latents if channels is None else latents[:, :channels])

    def logits(self, images: Tensor) -> Tensor:
        """The classifier's logits (B, K)."""
        return self.classifier.logits(self.embedding(images))

    def gaussian_features(self, images: Tensor) -> Tensor:
        """What the Gaussians of known images are fitted to; see ``DetectorConfig.embedding``."""
        return gaussian_features(self.config, self.classifier, self.embedding)(images)

    def classify(self, images: Tensor) -> Tensor:
        """The index of the predicted class (B,)."""
        return self.logits(images).argmax(1)

    def distance(self, kind: DistanceKind) -> Distance:
        """The distance of a name."""
        if kind == "embedding":
            return embedding_distance(self.classifier.embedding, self.embedding, self.classifier.unit_length)
        if kind == "mahalanobis":
            return mahalanobis_distance(self.mahalanobis)
        if kind == "features":
            return deep_feature(self.classifier.maps, self.config.feature_stages)
        return lpips_distance() if kind == "lpips" else {"mse": mse, "ssim": ssim_distance}[kind]

    @cached_property
    def mahalanobis(self) -> Mahalanobis:
        """The Mahalanobis distance of the embedding. Raises ValueError before the Gaussians were fitted."""
        if self.gaussians is None:
            raise ValueError("the detector 'mahalanobis' needs the Gaussians of known images' embeddings")
        return Mahalanobis(self.gaussian_features, self.gaussians, self.config.shrinkage)

    @cached_property
    def thumbnail(self) -> Mahalanobis:
        """The Mahalanobis distance of the embedding of the thumbnail beside latents; ValueError as for the other."""
        if self.thumbnails is None:
            raise ValueError(
                "the detector 'thumbnail' needs a classifier of thumbnails, and the Gaussians of known ones"
            )
        return Mahalanobis(self.classifier.thumbnail_embedding, self.thumbnails, self.config.shrinkage)

    def over_denoisers(self, name: str, condition: Condition, make: Callable[[Denoiser], Detector]) -> Detector:
        """What ``make`` gives for the single denoiser, or the union of what it gives for each worker's."""
        if not self.workers:
            return make(self.denoiser)
        return Union(
            [make(worker.denoiser) for worker in self.workers],
            [worker.moments[name] for worker in self.workers],
            torch.stack([worker.holds for worker in self.workers]),
            self.classify if condition == "predicted" else None,
        )


def gaussian_features(config: DetectorConfig, classifier: Classifier, embedding: Features | None = None) -> Features:
    """What the Gaussians of known images are fitted to.

    Args:
        config: of the run, without "auto".
        classifier: of the run.
        embedding: the classifier's, where its last value is cached.
    """
    if config.embedding == "stages":
        return classifier.stages_embedding
    return l2_normalised(embedding or classifier.embedding)
