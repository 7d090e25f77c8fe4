"""From a release to an answer: the class of an image, and whether it lies outside all that the federation has seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fedlmd import settings as settings_module
from fedlmd.artifacts import Release, ReleaseError
from fedlmd.detection import (
    LMD,
    Detector,
    Distance,
    MaxLogit,
    Moments,
    Once,
    OneStep,
    Sketch,
    deep_feature,
    fuse,
    lpips_distance,
    mse,
    scored,
    ssim_distance,
)
from fedlmd.diffusion import Schedule
from fedlmd.models import CNN, UNet
from fedlmd.settings import Settings

__all__ = ["VERDICT", "Answer", "Answerer", "Explanation", "Networks", "accelerator", "build", "detectors"]

# The name under which the fused score is calibrated.
VERDICT = "verdict"


@dataclass(frozen=True)
class Networks:
    """The two networks of a run, and the weights between them and the wire.

    Args:
        classifier: images to logits.
        denoiser: noisy images to velocities.
    """

    classifier: CNN
    denoiser: UNet

    @property
    def device(self) -> torch.device:
        """Where the networks compute; what goes in must be there, too."""
        return self.classifier.head.weight.device

    def for_answers(self) -> Networks:
        """Lay the weights out with the channels last: float32 answers are faster, bfloat16 training would be slower."""
        for network in self.parts().values():
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
    for network in networks.parts().values():
        network.eval().to(accelerator())
    return networks


def detectors(settings: Settings, networks: Networks) -> dict[str, Detector]:
    """Every detector of a run by the name of its score."""
    config, schedule = settings.detector, Schedule(settings.schedule)

    def distance(kind: str) -> Distance:
        if kind == "features":
            return deep_feature(networks.classifier.maps, config.feature_stages)
        plain: dict[str, Distance] = {"mse": mse, "ssim": ssim_distance}
        return lpips_distance() if kind == "lpips" else plain[kind]

    # All detectors ask for the logits of the same images.
    logits = Once[Tensor](networks.classifier)

    def classify(images: Tensor) -> Tensor:
        return logits(images).argmax(1)

    return {
        "max-logit": MaxLogit(logits),
        "one-step": OneStep(networks.denoiser, schedule, distance(config.one_step.distance), config.one_step, classify),
        "lmd": LMD(networks.denoiser, schedule, distance(config.lmd.distance), config.lmd, classify),
    }


@dataclass(frozen=True)
class Answer:
    """What the program says of one image.

    Args:
        prediction: the most probable label.
        is_ood: whether the image is called unknown: its score exceeds the threshold.
        probabilities: of each label, summing to 1. They presume that the image is of a known class.
        score: the verdict's score, higher is stranger.
        threshold: the score above which an image is called unknown; infinite where too few in-domain images were at
            hand to keep the promised false-alarm rate.
        p_value: share of in-domain images at least as strange, in (0, 1].
        alpha: the false-alarm rate that the threshold stands for.
        detector: which score decided.
        scores: every score that was computed.
        release: id of the release that answered.
    """

    prediction: str
    is_ood: bool
    probabilities: dict[str, float]
    score: float
    threshold: float
    p_value: float
    alpha: float
    detector: str
    scores: dict[str, float]
    release: str


@dataclass(frozen=True)
class Explanation:
    """What LMD saw of one image.

    Args:
        keep: masks (R, 1, H, W), True where the image stayed visible.
        reconstructions: (R, C, H, W) in [-1, 1].
        heat: (H, W), mean squared difference between the image and its reconstructions where they were redrawn.
        redrawn_as: the label that the reconstructions were conditioned on; None for the unconditional map.
    """

    keep: Bool[Tensor, "r 1 h w"]
    reconstructions: Float[Tensor, "r c h w"]
    heat: Float[Tensor, "h w"]
    redrawn_as: str | None


@final
class Answerer:
    """A release, ready to answer images.

    Args:
        release: what was loaded.

    Raises:
        ReleaseError: when the card does not describe the weights, or lacks what answering needs.
    """

    def __init__(self, release: Release) -> None:
        try:
            self.settings = settings_module.from_mapping(release.card["settings"])
            calibration = release.card["calibration"]
            self.scale = {name: Moments(**of) for name, of in calibration["moments"].items()}
            self.sketches = {
                name: Sketch(of["count"], tuple(of["values"])) for name, of in calibration["sketches"].items()
            }
            self.alpha = float(calibration["alpha"])
            # What an answer will need is looked up now, so that a wrong card shows when it is loaded.
            self.sketches[VERDICT].threshold(self.alpha)
            _ = [self.scale[name] for name in self.settings.detector.verdict]
        except KeyError as error:
            raise ReleaseError(f"the card of release {release.id} is incomplete: {error} is missing") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise ReleaseError(f"the card of release {release.id} is wrong: {error}") from None
        self.release = release
        self.networks = build(self.settings, release.weights).for_answers()
        self.detectors = detectors(self.settings, self.networks)
        if unknown := sorted(self.sketches.keys() - self.detectors.keys() - {VERDICT}):
            raise ReleaseError(f"the card of release {release.id} is wrong: it calibrates an unknown {unknown[0]!r}")
        # LMD is named once more, as the one detector that can show what it saw.
        self.lmd: LMD = self.detectors["lmd"]  # type: ignore[assignment]

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the scores that can decide."""
        return tuple(self.sketches)

    def scores(self, images: Float[Tensor, "b c h w"], names: Iterable[str]) -> dict[str, Float[Tensor, " b"]]:
        """Scores by name, those that the names need; ``verdict`` is the fused one."""
        wanted = dict.fromkeys(names)
        needed = dict.fromkeys(
            n for name in wanted for n in (self.settings.detector.verdict if name == VERDICT else [name])
        )
        found = scored({name: self.detectors[name] for name in needed}, images.to(self.networks.device))
        if VERDICT in wanted:
            found[VERDICT] = fuse(found, {name: self.scale[name] for name in self.settings.detector.verdict})
        return found

    @torch.inference_mode()
    def answer(
        self, images: Float[Tensor, "b c h w"], *, alpha: float | None = None, detector: str = VERDICT
    ) -> list[Answer]:
        """Answer images in [-1, 1] of the release's size.

        Args:
            images: the batch.
            alpha: false-alarm rate; None takes the release's.
            detector: name of the score that decides.

        Raises:
            ValueError: on an unknown detector or an alpha out of (0, 1).
        """
        if detector not in self.sketches:
            raise ValueError(f"unknown detector {detector!r}; this release has {', '.join(self.sketches)}")
        alpha = self.alpha if alpha is None else alpha
        sketch = self.sketches[detector]
        threshold = sketch.threshold(alpha)
        logits = self.networks.classifier(images.to(self.networks.device)).cpu()
        scores = self.scores(images, [detector])
        return [
            self.one(logits[i], {n: float(s[i]) for n, s in scores.items()}, sketch, threshold, alpha, detector)
            for i in range(len(images))
        ]

    def one(
        self, logits: Tensor, scores: dict[str, float], sketch: Sketch, threshold: float, alpha: float, detector: str
    ) -> Answer:
        """Put one image's answer together."""
        probabilities = logits.softmax(0).tolist()
        score = scores[detector]
        if not math.isfinite(score):
            raise ReleaseError(f"release {self.release.id} gives a score that is not finite; its weights are broken")
        return Answer(
            prediction=self.settings.labels[int(logits.argmax())],
            is_ood=score > threshold,
            probabilities=dict(zip(self.settings.labels, probabilities, strict=True)),
            score=score,
            threshold=threshold,
            p_value=sketch.p_value(score),
            alpha=alpha,
            detector=detector,
            scores=scores,
            release=self.release.id,
        )

    @torch.inference_mode()
    def explain(self, image: Float[Tensor, "1 c h w"]) -> Explanation:
        """Masks, reconstructions and the heat-map of one image."""
        image = image.to(self.networks.device)
        keep, redrawn = self.lmd.reconstruct(image)
        # Every pixel counts only in the reconstructions that redrew it.
        hidden = (~keep).float()
        squared = ((redrawn - image[None]) ** 2).mean(2) * hidden
        heat = squared.sum(0)[0] / hidden.sum(0)[0].clamp(min=1)
        conditioned = self.lmd.config.condition == "predicted"
        label = self.settings.labels[int(self.networks.classifier(image).argmax())] if conditioned else None
        return Explanation(keep.cpu(), redrawn[:, 0].cpu(), heat.cpu(), label)
