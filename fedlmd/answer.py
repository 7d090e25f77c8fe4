"""From a release to an answer: the class of an image, and whether it lies outside all that the federation has seen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fedlmd import settings as settings_module
from fedlmd.artifacts import Release, ReleaseError
from fedlmd.data import to_unit_range
from fedlmd.detection import (
    Detector,
    Moments,
    Reference,
    Sketch,
    Verdict,
    agreed,
    decide,
    fuse,
    heat,
    reference,
    scored,
)
from fedlmd.networks import Networks, build, detectors, painter
from fedlmd.self_test import LOGITS, VERDICT, SelfTest, patterns
from fedlmd.settings import Settings

__all__ = [
    "CLASS",
    "VERDICT",
    "Answer",
    "Answerer",
    "Explanation",
    "examined",
    "proof",
    "references",
]

# LMD is left out of a self-test, which runs whenever a release is loaded, from so many evaluations per image on.
DEAR = 100

# The name under which the cross-entropy of the true label is calibrated, from which label sets are made.
CLASS = "class"


@torch.inference_mode()
def examined(
    settings: Settings, networks: Networks, by_name: Mapping[str, Detector]
) -> dict[str, Float[Tensor, "n ..."]]:
    """Logits of the self-test's images and those of their scores that make the verdict.

    LMD is left out where it takes more than about a hundred evaluations; one-step denoising stands in for what nothing
    else examines.
    """
    images = to_unit_range(torch.from_numpy(patterns(settings.channels, settings.image_size))).to(networks.device)
    dear = {"lmd"} if settings.detector.lmd.evaluations > DEAR else set()
    names = [name for name in settings.detector.verdict if name not in dear] or ["one-step"]
    return {LOGITS: networks.classifier(images).cpu(), **scored({name: by_name[name] for name in names}, images)}


def proof(
    found: Mapping[str, Float[Tensor, "n ..."]], settings: Settings, scale: Mapping[str, Moments]
) -> dict[str, np.ndarray]:
    """What ``examined`` found, as a card and a message hold it, with the verdict where all of its scores are there."""
    verdict, whole = settings.detector.verdict, dict(found)
    if found.keys() >= set(verdict):
        whole[VERDICT] = fuse({name: found[name] for name in verdict}, {name: scale[name] for name in verdict})
    return {name: of.numpy() for name, of in whole.items()}


@dataclass(frozen=True)
class Answer:
    """What the program says of one image.

    Args:
        prediction: the most probable label.
        is_ood: whether the image is called unknown: its score exceeds the threshold, and so its p-value is at most
            alpha.
        probabilities: of each label, summing to 1. They presume that the image is of a known class.
        score: the verdict's score, higher is stranger.
        threshold: the score above which an image is called unknown; infinite where too few in-domain images were at
            hand to keep the promised false-alarm rate.
        p_value: share of in-domain images at least as strange, itself counted, in (0, 1].
        alpha: the false-alarm rate that the threshold stands for.
        detector: which score decided.
        scores: every score that was computed.
        release: id of the release that answered.
        verdict: "unknown" where ``is_ood``; "known" where the image is not strange at all and one label alone is
            plausible; "uncertain" elsewhere. See ``fedlmd.detection.decide`` for what each of them promises.
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
    verdict: Verdict


@dataclass(frozen=True)
class Explanation:
    """What the diffusion model makes of one image, and where it differs.

    Args:
        keep: masks (R, 1, H, W), True where the image stayed visible.
        reconstructions: (R, C, H, W) in [-1, 1].
        median: (C, H, W), per pixel the median of the reconstructions that redrew it.
        heat: (H, W), 0 to 4: how far the image is from the median beyond what the reconstructions differ themselves.
        redrawn_as: the label that the reconstructions were conditioned on; None for the unconditional map.
    """

    keep: Bool[Tensor, "r 1 h w"]
    reconstructions: Float[Tensor, "r c h w"]
    median: Float[Tensor, "c h w"]
    heat: Float[Tensor, "h w"]
    redrawn_as: str | None


@final
class Answerer:
    """A release, ready to answer images.

    Args:
        release: what was loaded.
        site: name of the site whose images are answered; what they are compared with is then what the release's
            setting ``calibration.sites`` says. Without a name, or where the card has no calibration of that site, it
            is the images of all sites alike.

    Raises:
        ReleaseError: when the card does not describe the weights, or lacks what answering needs, or the answers to the
            card's self-test are not those that the release gave when it was made.
    """

    def __init__(self, release: Release, site: str | None = None) -> None:
        try:
            self.settings = settings_module.from_mapping(release.card["settings"])
            calibration = release.card["calibration"]
            self.scale = {name: Moments(**of) for name, of in calibration["moments"].items()}
            self.sketches = references(calibration, site, self.settings)
            self.classes = self.sketches.pop(CLASS)
            self.alpha = float(calibration["alpha"])
            # What an answer will need is looked up now, so that a wrong card shows when it is loaded. The self-test is
            # decided on the images of all sites alike, as it was when the release was made.
            everyones = calibration["sketches"][VERDICT]
            self.limit = Sketch(everyones["count"], tuple(everyones["values"])).threshold(self.alpha)
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
        self.painter = painter(self.settings, self.networks)
        if "self_test" in release.card:
            self.examine(release.card["self_test"])

    def examine(self, told: Mapping[str, Any]) -> None:
        """Answer the card's self-test.

        Raises:
            ReleaseError: when the answers are not those that it tells.
        """
        found = proof(examined(self.settings, self.networks, self.detectors), self.settings, self.scale)
        if not all(np.isfinite(of).all() for of in found.values()):
            raise ReleaseError(f"release {self.release.id} gives a score that is not finite; its weights are broken")
        try:
            reason = SelfTest(**told).failure(found, self.limit)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ReleaseError(f"the card of release {self.release.id} is wrong: {error}") from None
        if reason is not None:
            raise ReleaseError(
                f"release {self.release.id} does not answer its self-test as it did when it was made ({reason}), "
                "so it is not served; install the release that was made, or train or calibrate anew"
            )

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
        self, logits: Tensor, scores: dict[str, float], sketch: Reference, threshold: float, alpha: float, detector: str
    ) -> Answer:
        """Put one image's answer together."""
        probabilities = logits.softmax(0).tolist()
        score = scores[detector]
        if not math.isfinite(score):
            raise ReleaseError(f"release {self.release.id} gives a score that is not finite; its weights are broken")
        p_value, uncertain = sketch.p_value(score), self.settings.calibration.alpha_uncertain
        return Answer(
            prediction=self.settings.labels[int(logits.argmax())],
            is_ood=score > threshold,
            probabilities=dict(zip(self.settings.labels, probabilities, strict=True)),
            score=score,
            threshold=threshold,
            p_value=p_value,
            alpha=alpha,
            detector=detector,
            scores=scores,
            release=self.release.id,
            verdict=decide(p_value, alpha, uncertain, self.plausible(logits, alpha)),
        )

    def plausible(self, logits: Float[Tensor, " k"], alpha: float) -> int:
        """How many labels an image's label set holds; a share alpha of known images at most miss the true one in it."""
        return int((self.classes.p_values(-logits.log_softmax(0).numpy()) > alpha).sum())

    @torch.inference_mode()
    def explain(self, image: Float[Tensor, "1 c h w"]) -> Explanation:
        """Masks, reconstructions, their median and the heat-map of one image; see ``fedlmd.detection.heat``."""
        image = image.to(self.networks.device)
        redrawn = self.painter.reconstruct(image)
        conditioned = self.painter.config.condition == "predicted"
        label = self.settings.labels[int(self.networks.classifier(image).argmax())] if conditioned else None
        return Explanation(
            redrawn.keep.cpu(),
            redrawn.images[:, 0].cpu(),
            agreed(image, redrawn)[0].cpu(),
            heat(image, redrawn)[0].cpu(),
            label,
        )


def references(calibration: Mapping[str, Any], site: str | None, settings: Settings) -> dict[str, Reference]:
    """What each score is compared with, by the score's name.

    Args:
        calibration: that section of a card. ``sites`` holds the sketches of each site by its name; where one site
            trained alone, the pooled ``sketches`` are all that there is.
        site: whose images are answered.
        settings: of the release.
    """
    found = {}
    for name, pooled in calibration["sketches"].items():
        there = {who: of[name] for who, of in calibration.get("sites", {}).items() if name in of}
        parts = {who: Sketch(of["count"], tuple(of["values"])) for who, of in (there or {"": pooled}).items()}
        found[name] = reference(parts, site, settings.calibration.sites)
    return found
