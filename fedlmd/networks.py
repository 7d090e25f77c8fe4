"""The two networks of a run with the weights between them and the wire, and the detectors that are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedlmd.artifacts import ReleaseError
from fedlmd.detection import (
    LMD,
    ClassGaussians,
    Detector,
    Distance,
    Mahalanobis,
    MaxLogit,
    Once,
    OneStep,
    deep_feature,
    directions,
    embedding_distance,
    lpips_distance,
    mse,
    ssim_distance,
)
from fedlmd.diffusion import Schedule
from fedlmd.models import CNN, UNet
from fedlmd.settings import Settings
from fedlmd.statistics import GAUSSIANS, square

__all__ = ["Networks", "accelerator", "build", "detectors", "gaussians_of"]


@dataclass(frozen=True)
class Networks:
    """The two networks of a run, and the weights between them and the wire.

    Args:
        classifier: images to logits.
        denoiser: noisy images to velocities.
        gaussians: of the embeddings of known images, by class; None before they were fitted.
    """

    classifier: CNN
    denoiser: UNet
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        networks = Networks(CNN(settings.classifier_config), UNet(settings.denoiser_config))
    if weights is not None:
        networks.load(weights)
        networks = replace(networks, gaussians=gaussians_of(weights))
    for network in networks.parts().values():
        network.eval().to(accelerator())
    return networks


def detectors(settings: Settings, networks: Networks) -> dict[str, Detector]:
    """Every detector of a run by the name of its score; Mahalanobis distances need the Gaussians of the embeddings."""
    config, schedule = settings.detector, Schedule(settings.schedule)

    # All detectors ask for the same images' embedding, from which the logits follow.
    embedding = Once[Tensor](networks.classifier.embedding)

    def logits(images: Tensor) -> Tensor:
        return networks.classifier.logits(embedding(images))

    def classify(images: Tensor) -> Tensor:
        return logits(images).argmax(1)

    def distance(kind: str) -> Distance:
        if kind == "embedding":
            return embedding_distance(networks.classifier.embedding, of_image=embedding)
        if kind == "features":
            return deep_feature(networks.classifier.maps, config.feature_stages)
        plain: dict[str, Distance] = {"mse": mse, "ssim": ssim_distance}
        return lpips_distance() if kind == "lpips" else plain[kind]

    found: dict[str, Detector] = {
        "max-logit": MaxLogit(logits),
        "one-step": OneStep(networks.denoiser, schedule, distance(config.one_step.distance), config.one_step, classify),
        "lmd": LMD(networks.denoiser, schedule, distance(config.lmd.distance), config.lmd, classify),
    }
    if networks.gaussians is not None:
        gaussians = ClassGaussians(*(part.to(networks.device) for part in networks.gaussians))
        found["mahalanobis"] = Mahalanobis(directions(embedding), gaussians, config.shrinkage)
    return found
