"""Prediction with a release: the class of an image, and whether it is out of distribution."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import HEAT, Moments, Reference, Sketch, decide, reference
from fedlmd.detection import build_detectors, fuse, heat, median_reconstruction
from fedlmd.inference.detectors import detector_inputs, explainer, heat_of_cells
from fedlmd.inference.prediction import Explanation, Prediction, Redrawings, as_number
from fedlmd.inference.self_test import self_test_outputs, self_test_scores
from fedlmd.models import EncoderError, build, load_encoder
from fedlmd.release import VERDICT, Release, ReleaseError, SelfTest
from fedlmd.settings import Settings, from_mapping

CLASS = "class"
"""The name under which the cross-entropy of the true label is calibrated, from which label sets are made."""

BRIGHTEST_CELL = 1.5
"""Heat of an encoder's cells that is drawn brightest, in squared standard deviations."""

BATCH = 64
"""Images that are scored at once."""


@final
class Predictor:
    """Predicts images with a release.

    Args:
        release: what was loaded.
        worker: name of the worker whose images are predicted; the release's setting ``calibration.sites`` then says
            which calibration images they are compared with. Without a name, or where the card has no calibration of
            that worker, the images of all workers are used alike.

    Raises:
        ReleaseError: when the card does not describe the weights, or lacks what a prediction needs, or the outputs for
            the card's self-test are not those that the release gave when it was made.
    """

    def __init__(self, release: Release, worker: str | None = None) -> None:
        self.release = release
        try:
            self.settings = from_mapping(release.card["settings"])
            calibration = release.card["calibration"]
            self.scale = {name: Moments(**moments) for name, moments in calibration["moments"].items()}
            self.references = references(calibration, worker, self.settings)
            self.classes = self.references.pop(CLASS)
            self.alpha = float(calibration["alpha"])
            # All that a prediction needs is read now, so that a wrong card is refused when it is loaded. The threshold
            # of the self-test is that of all workers' images alike, as it was when the release was made.
            pooled = calibration["sketches"][VERDICT]
            self.pooled_threshold = Reference.of_sketch(Sketch.from_json(pooled)).threshold(self.alpha)
            _ = [self.scale[name] for name in self.settings.detectors.verdict]
        except KeyError as error:
            raise ReleaseError(f"the card of release {release.id} is incomplete: {error} is missing") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise ReleaseError(f"the card of release {release.id} is wrong: {error}") from None
        self.load()
        if "self_test" in release.card:
            self.check_self_test(release.card["self_test"])

    def load(self) -> None:
        """Build networks and detectors. Raises ReleaseError where the weights do not fit the card."""
        try:
            self.networks = build(self.settings.networks, self.release.weights).for_inference()
            if self.settings.has_latents:  # now rather than at the first image
                load_encoder(self.settings.encoder)
            self.inputs = detector_inputs(self.settings, self.networks, self.release.weights)
            names = dict.fromkeys([*self.references, *self.settings.detectors.verdict])
            names.pop(VERDICT, None)
            self.detectors = build_detectors(names, self.inputs)
            self.explainer = explainer(self.settings, self.networks)
        except EncoderError as error:
            raise ReleaseError(f"release {self.release.id} needs its encoder: {error}") from None
        except ValueError as error:
            raise ReleaseError(f"release {self.release.id} is wrong: {error}") from None

    def check_self_test(self, expected: Mapping[str, Any]) -> None:
        """Run the card's self-test.

        Raises:
            ReleaseError: when the outputs are not those expected.
        """
        outputs = self_test_outputs(self.settings, self.networks, self.detectors)
        scores = self_test_scores(outputs, self.settings, self.settings.detectors.scaled(self.scale))
        if not all(np.isfinite(array).all() for array in scores.values()):
            raise ReleaseError(f"release {self.release.id} gives a score that is not finite; its weights are broken")
        try:
            reason = SelfTest(**expected).failure(scores, self.pooled_threshold)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ReleaseError(f"the card of release {self.release.id} is wrong: {error}") from None
        if reason is not None:
            raise ReleaseError(
                f"release {self.release.id} does not pass its self-test as it did when it was made ({reason}), "
                "so it is not served; install the release that was made, or train or calibrate anew"
            )

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the scores that can decide."""
        return tuple(self.references)

    def scores(self, images: Float[Tensor, "b c h w"], names: Iterable[str]) -> dict[str, Float[Tensor, " b"]]:
        """Scores by name, those that the names need; ``verdict`` is the fused one."""
        return self.outputs(images, names)[1]

    @torch.inference_mode()
    def outputs(
        self, images: Float[Tensor, "b c h w"], names: Iterable[str]
    ) -> tuple[Float[Tensor, "b k"], dict[str, Float[Tensor, " b"]]]:
        """Logits and scores; each image passes the classifier once, however many scores use its embedding.

        Args:
            images: in [-1, 1], of the release's size.
            names: of the scores; ``verdict`` is the fused one, which comes with its parts.
        """
        verdict = self.settings.detectors.verdict
        wanted = list(dict.fromkeys(names))
        needed = list(dict.fromkeys(part for name in wanted for part in (verdict if name == VERDICT else (name,))))
        logits, parts = [], []
        for pixels in torch.split(images.to(self.networks.device), BATCH):
            batch = self.networks.encode(pixels)
            logits.append(self.inputs.logits(self.inputs.maps(batch)).cpu())
            parts.append({name: self.detectors[name].score(batch).cpu() for name in needed})
        scores = {name: torch.cat([part[name] for part in parts]) for name in needed}
        if VERDICT in wanted:
            scores[VERDICT] = fuse(scores, self.settings.detectors.scaled(self.scale))
        return torch.cat(logits), scores

    @torch.inference_mode()
    def classify(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits of images in [-1, 1], on the processor."""
        return self.inputs.logits(self.inputs.maps(self.networks.encode(images.to(self.networks.device)))).cpu()

    def predict(
        self, images: Float[Tensor, "b c h w"], *, alpha: float | None = None, detector: str = VERDICT
    ) -> list[Prediction]:
        """Predict images in [-1, 1] of the release's size.

        Args:
            images: the batch.
            alpha: false-alarm rate; None takes the release's.
            detector: name of the score that decides.

        Raises:
            ValueError: on an unknown detector or an alpha out of (0, 1).
            ReleaseError: when a score is not finite.
        """
        if detector not in self.references:
            raise ValueError(f"unknown detector {detector!r}; this release has {', '.join(self.references)}")
        alpha = self.alpha if alpha is None else alpha
        self.references[detector].threshold(alpha)  # raises for an impossible alpha before anything is computed
        logits, scores = self.outputs(images, [detector])
        return [
            self.prediction(logits[i], {name: float(values[i]) for name, values in scores.items()}, alpha, detector)
            for i in range(len(images))
        ]

    def prediction(
        self, logits: Float[Tensor, " k"], scores: dict[str, float], alpha: float, detector: str
    ) -> Prediction:
        """The prediction of one image from its logits and scores."""
        score, calibration = scores[detector], self.references[detector]
        if not math.isfinite(score):
            raise ReleaseError(f"release {self.release.id} gives a score that is not finite; its weights are broken")
        p_value, threshold = calibration.p_value(score), calibration.threshold(alpha)
        probabilities = dict(zip(self.settings.labels, logits.softmax(0).tolist(), strict=True))
        uncertain = self.settings.calibration.alpha_uncertain
        return Prediction(
            prediction=as_number(self.settings.labels[int(logits.argmax())]),
            is_ood=score > threshold,
            probabilities=probabilities,
            score=score,
            threshold=threshold if math.isfinite(threshold) else None,
            p_value=p_value,
            alpha=alpha,
            detector=detector,
            scores=scores,
            release=self.release.id,
            verdict=decide(p_value, alpha, uncertain, self.plausible(logits, alpha)),
        )

    def plausible(self, logits: Float[Tensor, " k"], alpha: float) -> int:
        """Size of an image's conformal label set: it lacks the true label of at most a share alpha of known images."""
        return int((self.classes.p_values(-logits.log_softmax(0).numpy()) > alpha).sum())

    @torch.inference_mode()
    def explain(self, image: Float[Tensor, "1 c h w"]) -> Explanation:
        """The heat-map of one image, see ``fedlmd.detection.heat``; of an image without an encoder its redrawings."""
        latents = self.inputs.maps(self.networks.encode(image.to(self.networks.device)))
        conditioned = self.explainer.config.condition == "predicted"
        label = self.settings.labels[int(self.inputs.classify(latents))] if conditioned else None
        if self.settings.has_latents:
            cells = heat_of_cells(self.settings, self.inputs, latents)
            if known := self.scale.get(HEAT):
                cells = (cells - known.mean - known.std).clamp(min=0)
            large = F.interpolate(cells[:, None], image.shape[2:], mode="bilinear")
            return Explanation(large[0, 0].cpu(), label, brightest=BRIGHTEST_CELL)
        redrawn = self.explainer.reconstruct(latents)
        redrawings = Redrawings(
            redrawn.keep.cpu(), redrawn.images[:, 0].cpu(), median_reconstruction(latents, redrawn)[0].cpu()
        )
        return Explanation(heat(latents, redrawn)[0].cpu(), label, redrawings)


def references(calibration: Mapping[str, Any], worker: str | None, settings: Settings) -> dict[str, Reference]:
    """The calibration that each score is compared with, by the score's name.

    Args:
        calibration: that section of a card. ``sites`` holds the sketches of each worker by its name; where one worker
            trained alone, there are only the pooled ``sketches``.
        worker: whose images are predicted.
        settings: of the release.
    """
    by_score = {}
    for name, pooled in calibration["sketches"].items():
        own = {who: sketches[name] for who, sketches in calibration.get("sites", {}).items() if name in sketches}
        parts = {who: Sketch.from_json(entry) for who, entry in (own or {"": pooled}).items()}
        by_score[name] = reference(parts, worker, settings.calibration.sites)
    return by_score
