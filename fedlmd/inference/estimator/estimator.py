"""A release as an estimator of scikit-learn's form, without scikit-learn: images in, arrays out."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fedlmd.data import to_unit_range
from fedlmd.inference.estimator.images import decoded, each_image
from fedlmd.inference.prediction import Prediction, as_number
from fedlmd.inference.predictor import BATCH, Predictor
from fedlmd.release import SHIPPED, VERDICT, Release, ReleaseError, load_release

PARAMETERS = ("release", "alpha", "detector", "worker")


@final
class ReleaseEstimator:
    """A release with the methods of scikit-learn's classifiers and outlier detectors.

    ``predict`` gives labels, as a classifier's does. Whether an image is unknown is what ``is_ood`` says and the sign
    of ``decision_function``: where scikit-learn's outlier detectors have ``predict``, take
    ``np.where(estimator.is_ood(X), -1, 1)``.

    ``X`` is one image or several:

    - the path of an image file as text or ``Path``, the bytes of one, or a PIL image;
    - an array (H, W), (H, W, C) with C of 1 to 4, (N, H, W) or (N, H, W, C): channels come last. Three axes are one
      image where the last has 1 to 4 entries, and several grey ones elsewhere;
    - an array (N, F) of flat images, row by row, channels last, where F is the release's size * size * channels: two
      axes are one image for every other F;
    - a list, tuple, generator or array of objects with such single images, of different kinds and sizes as well; an
      array (F,) is a flat image in it.

    Arrays hold bool, uint8 (0 to 255), uint16 (0 to 65,535) or floats in [0, 1]; any numbers where the release's rules
    for pixels have a window. Images are decoded by these rules, as ``fedlmd infer`` does, a few at a time.

    Attributes:
        classes_: the labels, ascending: whole numbers where all of them are, else text. Columns of ``predict_proba``
            have this order.
        offset_: ``decision_function`` is ``score_samples`` less this: minus the threshold of the score. Minus infinity,
            so that every image counts as known, where the calibration has too few images for so small an ``alpha``.

    Args:
        release: a release's folder, the name of a shipped one, or a release in memory.
        alpha: share of known images that may be called unknown, in (0, 1); None for the release's.
        detector: name of the score that decides; "verdict" is the fused one.
        worker: name of the worker whose calibration counts; all workers' without it.

    Raises:
        ReleaseError: the release cannot be loaded.
        ValueError: the release has no such detector or worker, or alpha is out of (0, 1).
    """

    def __init__(
        self,
        release: str | PathLike[str] | Release = "pretrained",
        *,
        alpha: float | None = None,
        detector: str = VERDICT,
        worker: str | None = None,
    ) -> None:
        self.release, self.alpha, self.detector, self.worker = release, alpha, detector, worker
        self.prepare(Predictor(opened(release, worker), worker))

    def prepare(self, predictor: Predictor) -> None:
        """Take a predictor, and what follows from it and the parameters."""
        if self.detector not in predictor.choices:
            raise ValueError(f"unknown detector {self.detector!r}; this release has {', '.join(predictor.choices)}")
        alpha = predictor.alpha if self.alpha is None else self.alpha
        self.offset_ = -predictor.references[self.detector].threshold(alpha)
        self.predictor = predictor
        labels = [as_number(label) for label in predictor.settings.labels]
        numbers = all(isinstance(label, int) for label in labels)
        self.classes_, self.order = np.unique(labels if numbers else predictor.settings.labels, return_index=True)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401, N803 - scikit-learn's name
        """The most probable label of each image (N,), of ``classes_``."""
        labels: NDArray[Any] = self.classes_[self.logits(X).argmax(1)]
        return labels

    def predict_proba(self, X: Any) -> Float[np.ndarray, "n k"]:  # noqa: ANN401, N803
        """Probability of each label (N, K), in the order of ``classes_``, if the image is of a known one."""
        return torch.from_numpy(self.logits(X)).softmax(1).numpy()

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:  # noqa: ANN401, N803
        """Minus the OOD score of each image (N,): higher for known ones, as of scikit-learn's outlier detectors."""
        return -self.ood_scores(X)

    def decision_function(self, X: Any) -> Float[np.ndarray, " n"]:  # noqa: ANN401, N803
        """``score_samples - offset_`` (N,): negative for unknown images, 0 or more for known ones."""
        return self.score_samples(X) - self.offset_

    def is_ood(self, X: Any) -> NDArray[np.bool_]:  # noqa: ANN401, N803
        """Whether each image is called unknown (N,): where ``decision_function`` is negative."""
        return self.decision_function(X) < 0

    def p_values(self, X: Any) -> Float[np.ndarray, " n"]:  # noqa: ANN401, N803
        """Share of known images with at least the OOD score of each image (N,), in (0, 1]."""
        return self.predictor.references[self.detector].p_values(self.ood_scores(X))

    def infer(self, X: Any) -> list[Prediction]:  # noqa: ANN401, N803
        """The whole record of each image, as ``fedlmd infer --json`` writes it."""
        records: list[Prediction] = []
        for images in self.batches(X):
            records += self.predictor.predict(images, alpha=self.alpha, detector=self.detector)
        return records

    def score(self, X: Any, y: ArrayLike) -> float:  # noqa: ANN401, N803
        """Share of images whose most probable label is that of ``y`` (N,)."""
        return float(np.mean(self.predict(X) == np.asarray(y)))

    def logits(self, X: Any) -> Float[np.ndarray, "n k"]:  # noqa: ANN401, N803
        """Logits of each label (N, K), in the order of ``classes_``."""
        parts = [self.predictor.outputs(images, [])[0].numpy() for images in self.batches(X)]
        empty = np.empty((0, len(self.classes_)), np.float32)
        return np.concatenate([empty, *parts])[:, self.order]

    def ood_scores(self, X: Any) -> Float[np.ndarray, " n"]:  # noqa: ANN401, N803
        """The OOD score of each image (N,), in double precision, which holds a score exactly."""
        batches = self.batches(X)
        parts = [self.predictor.scores(images, [self.detector])[self.detector].numpy() for images in batches]
        scores = np.concatenate([np.empty(0), *parts])
        if not np.isfinite(scores).all():
            raise ReleaseError(f"release {self.predictor.release.id} gives a score that is not finite")
        return scores

    def batches(self, X: Any) -> Iterator[Float[Tensor, "b c h w"]]:  # noqa: ANN401, N803
        """The images in [-1, 1], a few at a time. Raises DataError for one that cannot be decoded."""
        rules = self.predictor.settings.pixel_rules
        pixels: list[Tensor] = []
        for number, image in enumerate(each_image(X, rules)):
            pixels.append(decoded(image, number, rules))
            if len(pixels) == BATCH:
                yield to_unit_range(torch.stack(pixels))
                pixels = []
        if pixels:
            yield to_unit_range(torch.stack(pixels))

    def fit(self, X: Any, y: Any = None) -> ReleaseEstimator:  # noqa: ANN401, ARG002, N803
        """Refuse to train: ``fedlmd train`` and ``fedlmd federate`` do. Raises TypeError."""
        raise TypeError(
            "a release is trained already; where a function fits what it gets, give it "
            "sklearn.frozen.FrozenEstimator(estimator)"
        )

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - as scikit-learn has it
        """The arguments that it was made with."""
        return {name: getattr(self, name) for name in PARAMETERS}

    def set_params(self, **parameters: Any) -> ReleaseEstimator:  # noqa: ANN401
        """Change arguments; the release is loaded again only where it or the worker changes.

        Raises:
            ValueError: there is no such argument, or its value is wrong; everything stays as it was.
        """
        unknown = sorted(parameters.keys() - set(PARAMETERS))
        if unknown:
            raise ValueError(f"there is no parameter {unknown[0]!r}; there are {', '.join(PARAMETERS)}")
        changed = object.__new__(type(self))
        changed.__dict__ |= {**self.get_params(), **parameters}
        if parameters.keys() & {"release", "worker"}:
            changed.prepare(Predictor(opened(changed.release, changed.worker), changed.worker))
        else:
            changed.prepare(self.predictor)
        self.__dict__ |= changed.__dict__
        return self

    def __getstate__(self) -> dict[str, Any]:
        """The parameters and the release's content: it can be loaded where its folder is not."""
        return {**self.get_params(), "content": self.predictor.release}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= {name: state[name] for name in PARAMETERS}
        self.prepare(Predictor(state["content"], self.worker))

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn alone calls this, so it is there
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags  # noqa: PLC0415

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(three_d_array=True, string=True),
            requires_fit=False,
        )

    def __repr__(self) -> str:
        release = f"<{self.release.id}>" if isinstance(self.release, Release) else repr(str(self.release))
        others = "".join(f", {name}={getattr(self, name)!r}" for name in PARAMETERS[1:])
        return f"{type(self).__name__}({release}{others})"


def opened(release: str | PathLike[str] | Release, worker: str | None) -> Release:
    """The release that an argument names. Raises ReleaseError; ValueError for a worker that it does not know."""
    found = release if isinstance(release, Release) else load_release(SHIPPED.get(str(release), Path(release)))
    calibration = found.card.get("calibration")
    names = list(calibration.get("sites", {})) if isinstance(calibration, dict) else []
    if worker is not None and worker not in names:
        raise ValueError(
            f"release {found.id} has no calibration of a worker {worker!r}; it has {', '.join(names) or 'one for all'}"
        )
    return found
