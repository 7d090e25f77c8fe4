"""Evaluation of a release: accuracy on known images, separation of unknown ones, false alarms at its threshold."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from fedlmd.calibration import PromiseCheck, check_scores
from fedlmd.data import DataError, LabelledImages, some
from fedlmd.detection import Separation, separation
from fedlmd.inference.predictor import Predictor
from fedlmd.progress import Progress
from fedlmd.release import VERDICT
from fedlmd.training import Evaluation, evaluate


@dataclass(frozen=True)
class Report:
    """The measurements of a release.

    Args:
        classification: accuracy and loss on all known images.
        known: how many known images were scored.
        unknown: how many unknown images were scored.
        alpha: the chosen false-alarm rate.
        false_alarm_rate: share of known images that were called unknown.
        detection_rate: share of unknown images that were called unknown.
        separations: threshold-free metrics of every score, by its name; "verdict" is the fused one.
        promise: whether the false-alarm rate is as promised, see ``fedlmd.calibration.PromiseCheck``.
    """

    classification: Evaluation
    known: int
    unknown: int
    alpha: float
    false_alarm_rate: float
    detection_rate: float
    separations: dict[str, Separation]
    promise: PromiseCheck


def examine(
    predictor: Predictor, known: LabelledImages, unknown: LabelledImages, *, most: int = 1000, batch_size: int = 50
) -> Generator[Progress, None, Report]:
    """Measure a release; the generator returns the report.

    Args:
        predictor: the release.
        known: images of the release's labels that it was not trained on, indices as in the release.
        unknown: images of anything else.
        most: of each kind, at most so many are scored; accuracy is measured on all.
        batch_size: images scored at once.
    """
    classification = evaluate(predictor.classify, known)
    batches = [torch.split(images.images(), batch_size) for images in (some(known, most), some(unknown, most))]
    scored = []
    for done, images in enumerate(batches[0] + batches[1], 1):
        scored.append(predictor.scores(images, predictor.choices))
        yield Progress("scoring", done, len(batches[0] + batches[1]))
    inside, outside = (
        {name: torch.cat([scores[name] for scores in part]) for name in predictor.choices}
        for part in (scored[: len(batches[0])], scored[len(batches[0]) :])
    )
    reference = predictor.references[VERDICT]
    threshold = reference.threshold(predictor.alpha)
    return Report(
        classification=classification,
        known=len(inside[VERDICT]),
        unknown=len(outside[VERDICT]),
        alpha=predictor.alpha,
        false_alarm_rate=float((inside[VERDICT] > threshold).float().mean()),
        detection_rate=float((outside[VERDICT] > threshold).float().mean()),
        separations={name: separation(inside[name], outside[name]) for name in predictor.choices},
        promise=check_scores(reference, predictor.alpha, inside[VERDICT].numpy()),
    )


def known_source(card: Mapping[str, Any]) -> str:
    """The source of a release's known images, as its settings name it: "mnist", a folder or a file.

    A federated release names none: where a worker has its images stays at the worker.

    Raises:
        DataError: when the card does not name it.
    """
    source = card.get("settings", {}).get("data", {}).get("source")
    if not isinstance(source, str):
        raise DataError(
            "the release does not say where its images are; give --source: mnist, sign-digits, a folder or an .npz file"
        )
    return source
