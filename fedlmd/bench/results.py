"""From scores to figures: each detector on each task, and the means that a README or a check names."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fedlmd.answer import VERDICT, Answerer
from fedlmd.bench.open_set import oscr
from fedlmd.bench.scores import Scores
from fedlmd.bench.tasks import Task
from fedlmd.data import LabelledImages
from fedlmd.detection import separation

__all__ = [
    "COLUMNS",
    "PREDICTION",
    "SPLIT",
    "Line",
    "described",
    "figures_of",
    "lines",
    "mean_and_deviation",
    "tasks_of",
]

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
    task: Task, answerer: Answerer, found: dict[str, Scores], known: LabelledImages, unknown: LabelledImages
) -> dict[str, Any]:
    """A task's scores in figures: each detector's separation and cost, and what the verdict amounts to."""
    predicted = found.pop(PREDICTION)
    right, verdict = predicted.known == known.labels, found[VERDICT]
    threshold = answerer.sketches[VERDICT].threshold(answerer.alpha)
    decided = {
        "alpha": answerer.alpha,
        "accuracy": float(right.double().mean()),
        "false_alarm_rate": float((verdict.known > threshold).double().mean()),
    }
    called_unknown = float((verdict.unknown > threshold).double().mean())
    if task.same_classes:
        there = (predicted.unknown == unknown.labels).double()
        decided |= {"called_unknown": called_unknown, "accuracy_elsewhere": float(there.mean())}
    else:
        decided |= {"detection_rate": called_unknown, "oscr": oscr(verdict.known, right, verdict.unknown)}
    return {
        "title": task.title,
        "release": answerer.release.id,
        "verdict": decided,
        "detectors": {name: row(scores, separable=not task.same_classes) for name, scores in found.items()},
    }


def row(scores: Scores, *, separable: bool) -> dict[str, float]:
    """What one detector did on one task, and what it took."""
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
    splits = [of for name, of in results.items() if name.startswith(SPLIT)]
    for detector, suffix in ((VERDICT, ""), ("lmd", "_lmd"), ("one-step", "_one_step")):
        for name in ("01234", "0123-459", "fashion", "notmnist"):
            if name in results and detector in results[name]["detectors"]:
                figures[f"auroc_{name.replace('-', '_')}{suffix}"] = results[name]["detectors"][detector]["auroc"]
        values = [of["detectors"][detector]["auroc"] for of in splits if detector in of["detectors"]]
        figures |= mean_and_deviation(f"auroc_mnist64{suffix}", values)
    for name in ("accuracy", "oscr", "false_alarm_rate", "detection_rate"):
        figures |= mean_and_deviation(f"{name}_mnist64", [of["verdict"][name] for of in splits])
    if "usps" in results:
        told = results["usps"]["verdict"]
        figures |= {"called_unknown_usps": told["called_unknown"], "accuracy_usps": told["accuracy_elsewhere"]}
    return figures


def mean_and_deviation(name: str, values: list[float]) -> dict[str, float]:
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
        auroc: by the column's head; a column that it took no part in is missing.
    """

    name: str
    nfe: float
    gflop: float
    milliseconds: float
    images: int | None
    auroc: dict[str, float]


def tasks_of(results: Mapping[str, Any], column: str) -> list[Any]:
    """The tasks that a column is the mean of."""
    return [of for name, of in results.items() if name == column or (column == SPLIT and name.startswith(SPLIT))]


def lines(results: Mapping[str, Any]) -> list[Line]:
    """The detectors, the verdict first, the others by their mean over the columns that they have, best first."""
    names = dict.fromkeys(name for of in results.values() for name in of["detectors"])
    found = [line_of(name, results) for name in names]
    return sorted(found, key=lambda line: (line.name != VERDICT, -statistics.mean(line.auroc.values() or [0.0])))


def line_of(name: str, results: Mapping[str, Any]) -> Line:
    """One detector's line; what it costs is said of the first task."""
    took_part = [of["detectors"] for of in results.values() if name in of["detectors"]]
    own, most = took_part[0][name], took_part[0][VERDICT]
    fewer = min(own["known"], own["unknown"]) < min(most["known"], most["unknown"])
    auroc = {}
    for column, head in COLUMNS.items():
        values = [of["detectors"][name]["auroc"] for of in tasks_of(results, column) if name in of["detectors"]]
        if values:
            auroc[head] = statistics.mean(values)
    return Line(name, own["nfe"], own["gflop"], own["ms"], max(own["known"], own["unknown"]) if fewer else None, auroc)
