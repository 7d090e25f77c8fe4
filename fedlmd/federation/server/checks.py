"""Checks of a worker's calibration figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from fedlmd.calibration import too_few


def check_moments(metrics: Mapping[str, Any]) -> str | None:
    """Why a worker's moments are refused, or None."""
    for name, moments in metrics.items():
        if not isinstance(moments, Mapping) or not all(is_number(moments.get(key)) for key in ("count", "mean", "std")):
            return f"{name!r} must have the finite numbers count, mean and std"
        if moments["count"] <= 0 or moments["std"] < 0:
            numbers = f"count {moments['count']} and std {moments['std']}"
            return f"{name!r} has {numbers}; they must be above 0, and 0 or above"
    return None if metrics else "the reply has no moments"


def check_sketches(metrics: Mapping[str, Any], levels: Sequence[float], most: float = math.inf) -> str | None:
    """Why a worker's sketches are refused, or None.

    Args:
        metrics: the sketches.
        levels: the levels of their values.
        most: the largest count that one may have.
    """
    for name, sketch in metrics.items():
        if not isinstance(sketch, Mapping) or not is_number(sketch.get("count")) or sketch["count"] <= 0:
            return f"{name!r} must have a count above 0"
        if sketch["count"] > most or sketch["count"] != int(sketch["count"]):
            return f"{name!r} has a count of {sketch['count']}; it is a whole number of at most {most:g}"
        values = sketch.get("values")
        if not isinstance(values, list) or len(values) != len(levels) or not all(map(is_number, values)):
            return f"{name!r} must have {len(levels)} finite values, one for each level"
        if any(low > high for low, high in pairwise(values)):
            return f"the values of {name!r} must not fall"
    return None if metrics else "the reply has no sketches"


def few_images(workers: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str | None:
    """A warning where the workers of a round have too few images to calibrate with, or None; other workers may join.

    Args:
        workers: name and metrics of each.
        settings: of the run.
    """
    counts = [worker["metrics"].get("calibration-images") for worker in workers]
    if not counts or not all(is_number(count) for count in counts):
        return None
    calibration = settings["calibration"]
    reason = too_few(int(sum(counts)), calibration["alpha"], images=calibration["images"])
    return reason and f"at the workers of this round {reason}; unless others join, the run will end without a release"


def is_number(value: object) -> bool:
    """Whether something is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)
