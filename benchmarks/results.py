"""From scores to figures: each detector on each task, and the means that a README or a check names."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.open_set import oscr
from benchmarks.scores import Scores
from benchmarks.tasks import Task
from fedlmd.data import LabelledImages
from fedlmd.detection import separation
from fedlmd.inference import Predictor
from fedlmd.release import VERDICT

PREDICTION = "prediction"
"""The file of predicted classes, beside those of the scores."""

SPLIT = "mnist64-"
"""How the names of the splits begin, of which the mean is given."""

COLUMNS: dict[str, str] = {
    SPLIT: "6 digits against 4",
    "0123-459": "0-3 against 4, 5, 9",
    "01234": "0-4 against 5-9",
    "fashion": "Fashion-MNIST",
    "notmnist": "notMNIST",
}
"""Heads of the tables' columns by the task's name, or by the beginning of several tasks' names."""


def described(
    task: Task, predictor: Predictor, scores: Mapping[str, Scores], known: LabelledImages, unknown: LabelledImages
) -> dict[str, Any]:
    """A task's scores in figures: each detector's separation and cost, and what the verdict amounts to."""
    predicted, verdict = scores[PREDICTION], scores[VERDICT]
    right = predicted.known == known.labels
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    decided = {
        "alpha": predictor.alpha,
        "accuracy": float(right.double().mean()),
        "false_alarm_rate": float((verdict.known > threshold).double().mean()),
    }
    called_unknown = float((verdict.unknown > threshold).double().mean())
    if task.same_classes:
        right_elsewhere = (predicted.unknown == unknown.labels).double()
        decided |= {"called_unknown": called_unknown, "accuracy_elsewhere": float(right_elsewhere.mean())}
    else:
        decided |= {"detection_rate": called_unknown, "oscr": oscr(verdict.known, right, verdict.unknown)}
    return {
        "title": task.title,
        "release": predictor.release.id,
        "verdict": decided,
        "detectors": {
            name: row(each, separable=not task.same_classes) for name, each in scores.items() if name != PREDICTION
        },
    }


def row(scores: Scores, *, separable: bool) -> dict[str, float]:
    """One detector's figures on one task, and its cost."""
    figures = asdict(separation(scores.known, scores.unknown)) if separable else {}
    return figures | {
        "nfe": scores.evaluations,
        "gflop": scores.gflop,
        "ms": scores.milliseconds,
        "known": len(scores.known),
        "unknown": len(scores.unknown),
    }


def figures_of(results: Mapping[str, Any]) -> dict[str, float]:
    """The figures that a README or a check names, from the tasks that were measured."""
    figures: dict[str, float] = {}
    splits = [result for name, result in results.items() if name.startswith(SPLIT)]
    for detector, suffix in ((VERDICT, ""), ("lmd", "_lmd"), ("one-step", "_one_step")):
        for name in ("01234", "0123-459", "fashion", "notmnist"):
            if name in results and detector in results[name]["detectors"]:
                figures[f"auroc_{name.replace('-', '_')}{suffix}"] = results[name]["detectors"][detector]["auroc"]
        values = [split["detectors"][detector]["auroc"] for split in splits if detector in split["detectors"]]
        figures |= mean_and_std(f"auroc_mnist64{suffix}", values)
    for name in ("accuracy", "oscr", "false_alarm_rate", "detection_rate"):
        figures |= mean_and_std(f"{name}_mnist64", [split["verdict"][name] for split in splits])
    if "usps" in results:
        usps = results["usps"]["verdict"]
        figures |= {"called_unknown_usps": usps["called_unknown"], "accuracy_usps": usps["accuracy_elsewhere"]}
    return figures


def mean_and_std(name: str, values: list[float]) -> dict[str, float]:
    """Mean over the splits, and their standard deviation (n - 1) where there are several."""
    if not values:
        return {}
    spread = {f"{name}_std": statistics.stdev(values)} if len(values) > 1 else {}
    return {name: statistics.mean(values)} | spread


@dataclass(frozen=True)
class Line:
    """One detector in a table.

    Args:
        name: the detector's.
        nfe: evaluations of the denoiser per image.
        gflop: operations per image in 10^9.
        milliseconds: per image in a batch.
        images: of each kind, at most; None where as many as the verdict scored.
        auroc: by the column's head; a column without a figure is missing.
    """

    name: str
    nfe: float
    gflop: float
    milliseconds: float
    images: int | None
    auroc: dict[str, float]


def tasks_of(results: Mapping[str, Any], column: str) -> list[Any]:
    """The tasks that a column is the mean of."""
    return [
        result for name, result in results.items() if name == column or (column == SPLIT and name.startswith(SPLIT))
    ]


def lines(results: Mapping[str, Any]) -> list[Line]:
    """The detectors, the verdict first, the others by their mean over the columns that they have, best first."""
    names = dict.fromkeys(name for result in results.values() for name in result["detectors"])
    every = [line_of(name, results) for name in names]
    return sorted(every, key=lambda line: (line.name != VERDICT, -statistics.mean(line.auroc.values() or [0.0])))


def line_of(name: str, results: Mapping[str, Any]) -> Line:
    """One detector's line; its cost is that on the first task."""
    took_part = [result["detectors"] for result in results.values() if name in result["detectors"]]
    own, most = took_part[0][name], took_part[0][VERDICT]
    fewer = min(own["known"], own["unknown"]) < min(most["known"], most["unknown"])
    auroc = {}
    for column, head in COLUMNS.items():
        values = [task["detectors"][name]["auroc"] for task in tasks_of(results, column) if name in task["detectors"]]
        if values:
            auroc[head] = statistics.mean(values)
    return Line(name, own["nfe"], own["gflop"], own["ms"], max(own["known"], own["unknown"]) if fewer else None, auroc)
