"""How good a release is: accuracy on known images, separation of unknown ones, false alarms at its threshold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.answer import VERDICT, Answerer
from fedlmd.data import LabelledImages, some
from fedlmd.detection import Separation, separation
from fedlmd.progress import Progress
from fedlmd.training import Evaluation, evaluate

__all__ = ["Report", "examine"]


@dataclass(frozen=True)
class Report:
    """What was measured.

    Args:
        classification: accuracy and loss on all known images.
        known: how many known images were scored.
        unknown: how many unknown images were scored.
        alpha: the chosen false-alarm rate.
        false_alarm_rate: share of known images that were called unknown.
        detection_rate: share of unknown images that were called unknown.
        separations: threshold-free figures of every score; "verdict" is the deciding one.
    """

    classification: Evaluation
    known: int
    unknown: int
    alpha: float
    false_alarm_rate: float
    detection_rate: float
    separations: dict[str, Separation]


def examine(
    answerer: Answerer, known: LabelledImages, unknown: LabelledImages, *, most: int = 1000, batch_size: int = 50
) -> Iterator[Progress | Report]:
    """Measure a release; the last item is the report.

    Args:
        answerer: the release.
        known: images of the release's labels that it never saw, indices as in the release.
        unknown: images of anything else.
        most: of each kind, at most so many are scored; accuracy is measured on all.
        batch_size: images scored at once.
    """
    classification = evaluate(answerer.networks.classifier, known)
    batches = [torch.split(images.images(), batch_size) for images in (some(known, most), some(unknown, most))]
    total, done = sum(len(part) for part in batches), 0
    scores: list[dict[str, Tensor]] = []
    for part in batches:
        found: list[dict[str, Float[Tensor, " b"]]] = []
        for images in part:
            found.append(answerer.scores(images, answerer.choices))
            done += 1
            yield Progress("scoring", done, total)
        scores.append({name: torch.cat([batch[name] for batch in found]) for name in answerer.choices})
    inside, outside = scores
    threshold = answerer.sketches[VERDICT].threshold(answerer.alpha)
    yield Report(
        classification=classification,
        known=len(inside[VERDICT]),
        unknown=len(outside[VERDICT]),
        alpha=answerer.alpha,
        false_alarm_rate=float((inside[VERDICT] > threshold).float().mean()),
        detection_rate=float((outside[VERDICT] > threshold).float().mean()),
        separations={name: separation(inside[name], outside[name]) for name in answerer.choices},
    )
