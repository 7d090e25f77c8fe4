"""The two networks of a run with the weights between them and the wire, and the detectors that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from fedlmd.artifacts import ReleaseError
from fedlmd.detection import (
    LMD,
    ClassGaussians,
    Condition,
    Detector,
    Distance,
    DistanceKind,
    LMDConfig,
    Mahalanobis,
    MaxLogit,
    Moments,
    Once,
    OneStep,
    Union,
    deep_feature,
    directions,
    embedding_distance,
    explaining,
    lpips_distance,
    mse,
    ssim_distance,
)
from fedlmd.diffusion import Denoiser, Mixture, Schedule
from fedlmd.models import CNN, Ensemble, UNet
from fedlmd.settings import Settings
from fedlmd.statistics import GAUSSIANS, square

__all__ = ["DENOISING", "Assembly", "Networks", "accelerator", "build", "detectors", "gaussians_of", "painter"]

DENOISING = ("one-step", "lmd")
"""The detectors that use the denoiser; their scores are calibrated site by site where each site keeps its own."""


@dataclass(frozen=True)
class Networks:
    """The two networks of a run, and the weights between them and the wire.

    Args:
        classifier: images to logits.
        denoiser: noisy images to velocities; an ensemble where every site's was kept.
        gaussians: of the embeddings of known images, by class; None before they were fitted.
    """

    classifier: CNN
    denoiser: UNet | Ensemble
    gaussians: ClassGaussians | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks compute; what goes in must be there, too."""
        return self.classifier.head.weight.device

    def for_answers(self) -> Networks:
        """Lay the weights out with the channels last: float32 answers are faster, bfloat16 training would be slower."""
        for network in self.parts().values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Ten bits of TensorFloat-32 would give a graphics processor other answers than the processor gives.
        torch.backends.cudnn.allow_tf32 = False
        return self

    def parts(self) -> dict[str, nn.Module]:
        """The networks by the prefix of their weights' names."""
        return {"classifier": self.classifier, "denoiser": self.denoiser}

    def weights(self) -> dict[str, Any]:
        """All weights as float32 arrays, named ``classifier.…`` and ``denoiser.…``."""
        return {
            f"{part}.{name}": value.detach().cpu().numpy().copy()
            for part, network in self.parts().items()
            for name, value in network.state_dict().items()
        }

    def load(self, weights: Mapping[str, Any]) -> None:
        """Take weights in; whatever their precision, they are held as float32.

        Raises:
            ReleaseError: when a name or shape does not fit the networks.
        """
        for part, network in self.parts().items():
            prefix = f"{part}."
            state = {
                n.removeprefix(prefix): torch.tensor(v).float() for n, v in weights.items() if n.startswith(prefix)
            }
            try:
                network.load_state_dict(state)
            except RuntimeError as error:
                reason = " ".join(str(error).split())[:300]
                raise ReleaseError(f"the weights do not fit the {part} of these settings: {reason}") from None


def gaussians_of(weights: Mapping[str, Any]) -> ClassGaussians | None:
    """The Gaussians that a release holds beside its weights; None where there are none.

    Raises:
        ReleaseError: when some are missing or broken, or do not fit each other.
    """
    found = {n.removeprefix(GAUSSIANS): np.asarray(v) for n, v in weights.items() if n.startswith(GAUSSIANS)}
    if not found:
        return None
    shapes = [found[name].shape if name in found else None for name in ClassGaussians._fields]
    classes, size = shapes[1] if shapes[1] is not None and len(shapes[1]) == 2 else (0, 0)
    if shapes != [(classes,), (classes, size), (classes, size * (size + 1) // 2)]:
        raise ReleaseError(f"the Gaussians of the embeddings do not fit each other: they have the shapes {shapes}")
    if not all(np.isfinite(part).all() for part in found.values()) or not found["counts"].sum() > 0:
        raise ReleaseError("the Gaussians of the embeddings are broken: they are not finite, or of no image")
    found["covariances"] = square(found["covariances"], size)
    return ClassGaussians(**{name: torch.from_numpy(part.astype(np.float32)) for name, part in found.items()})


def accelerator() -> torch.device:
    """The graphics processor where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(settings: Settings, weights: Mapping[str, Any] | None = None) -> Networks:
    """Both networks for a run, ready to answer; freshly initialised from the run's seed without ``weights``."""
    members = members_in(weights or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        classifier, shape = CNN(settings.classifier_config), settings.denoiser_config
        denoiser = Ensemble(shape, members, len(DENOISING)) if members else UNet(shape)
    networks = Networks(classifier, denoiser)
    if weights is not None:
        networks.load(weights)
        networks = replace(networks, gaussians=gaussians_of(weights))
    for network in networks.parts().values():
        network.eval().to(accelerator())
    return networks


def members_in(weights: Mapping[str, Any]) -> int:
    """How many sites' denoisers there are among weights that hold an ensemble, else 0."""
    start = "denoiser.members."
    return len({name.removeprefix(start).partition(".")[0] for name in weights if name.startswith(start)})


def detectors(settings: Settings, networks: Networks) -> dict[str, Detector]:
    """Every detector of a run by the name of its score; Mahalanobis distances need the Gaussians of the embeddings."""
    parts = Assembly(settings, networks)
    found: dict[str, Detector] = {
        "max-logit": MaxLogit(parts.logits),
        "one-step": parts.merged("one-step", settings.detector.one_step.condition, parts.one_step),
        "lmd": parts.merged("lmd", settings.detector.lmd.condition, parts.lmd),
    }
    if networks.gaussians is not None:
        gaussians = ClassGaussians(*(part.to(networks.device) for part in networks.gaussians))
        found["mahalanobis"] = Mahalanobis(directions(parts.embedding), gaussians, settings.detector.shrinkage)
    return found


def painter(settings: Settings, networks: Networks) -> LMD:
    """LMD with settings made for showing what it sees, see ``fedlmd.detection.explaining``."""
    parts = Assembly(settings, networks)
    return parts.lmd(parts.denoiser, explaining(settings.detector.lmd, parts.schedule))


@final
class Assembly:
    """What the detectors of a run are made of.

    Args:
        settings: of the run.
        networks: that they ask.
    """

    def __init__(self, settings: Settings, networks: Networks) -> None:
        self.settings, self.networks = settings, networks
        self.schedule = Schedule(settings.schedule)
        # All detectors ask for the same images' embedding, from which the logits follow.
        self.embedding = Once[Tensor](networks.classifier.embedding)

    def logits(self, images: Tensor) -> Tensor:
        """The classifier's logits (B, K)."""
        return self.networks.classifier.logits(self.embedding(images))

    def classify(self, images: Tensor) -> Tensor:
        """The index of the predicted class (B,)."""
        return self.logits(images).argmax(1)

    def distance(self, kind: DistanceKind) -> Distance:
        """The distance of a name."""
        classifier = self.networks.classifier
        if kind == "embedding":
            return embedding_distance(classifier.embedding, of_image=self.embedding)
        if kind == "features":
            return deep_feature(classifier.maps, self.settings.detector.feature_stages)
        return lpips_distance() if kind == "lpips" else {"mse": mse, "ssim": ssim_distance}[kind]

    @property
    def denoiser(self) -> Denoiser:
        """The one denoiser that there is, or that several sites' make together."""
        denoiser = self.networks.denoiser
        if isinstance(denoiser, Ensemble):
            return Mixture(list(denoiser.members), self.schedule, denoiser.shares)
        return denoiser

    def one_step(self, denoiser: Denoiser) -> OneStep:
        """One-step denoising with a denoiser."""
        config = self.settings.detector.one_step
        return OneStep(denoiser, self.schedule, self.distance(config.distance), config, self.classify)

    def lmd(self, denoiser: Denoiser, config: LMDConfig | None = None) -> LMD:
        """LMD with a denoiser, by the run's settings or others."""
        config = config or self.settings.detector.lmd
        return LMD(denoiser, self.schedule, self.distance(config.distance), config, self.classify)

    def merged(self, name: str, condition: Condition, make: Callable[[Denoiser], Detector]) -> Detector:
        """A detector of all sites: with the one denoiser, or as the union of detectors with each site's own.

        Args:
            name: of the detector, one of ``DENOISING``.
            condition: what it is conditioned on.
            make: makes it with a denoiser.
        """
        sites, column = self.networks.denoiser, DENOISING.index(name)
        if not isinstance(sites, Ensemble) or self.settings.federation.merge != "union":
            return make(self.denoiser)
        pairs = zip(sites.means[:, column].tolist(), sites.stds[:, column].tolist(), strict=True)
        scales = [Moments(1, mean, std) for mean, std in pairs]
        classify = self.classify if condition == "predicted" else None
        return Union([make(member) for member in sites.members], scales, sites.shares > 0, classify)
