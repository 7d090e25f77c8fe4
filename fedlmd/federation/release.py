"""From the workers' calibration to a release: pooled moments, pooled sketches, the card. Numbers only, never images.

A worker's *moments* are ``{detector: {"count", "mean", "std"}}``, a std having the divisor n. Its *sketches* are
``{detector: {"count", "values"}}``: quantiles of its scores at the plan's levels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np

from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.self_test import LOGITS, VERDICT, SelfTest

__all__ = [
    "Form",
    "check_moments",
    "check_sketches",
    "finish_release",
    "form_of",
    "mixture_quantiles",
    "pool_moments",
    "pool_sketches",
    "sites_of",
    "threshold",
    "usual_form",
]

Form = frozenset[tuple[str, tuple[int, ...]]]
"""What a reply reports: figures and arrays by name, with the arrays' shapes."""


def check_moments(metrics: Mapping[str, Any]) -> str | None:
    """Why a worker's moments are refused, or None."""
    for name, of in metrics.items():
        if not isinstance(of, Mapping) or not all(is_number(of.get(key)) for key in ("count", "mean", "std")):
            return f"{name!r} must have the finite numbers count, mean and std"
        if of["count"] <= 0 or of["std"] < 0:
            return f"{name!r} has count {of['count']} and std {of['std']}; they must be above 0, and 0 or above"
    return None if metrics else "the reply has no moments"


def check_sketches(metrics: Mapping[str, Any], levels: Sequence[float]) -> str | None:
    """Why a worker's sketches are refused, or None.

    Args:
        metrics: the sketches.
        levels: the levels that they have values for.
    """
    for name, of in metrics.items():
        if not isinstance(of, Mapping) or not is_number(of.get("count")) or of["count"] <= 0:
            return f"{name!r} must have a count above 0"
        values = of.get("values")
        if not isinstance(values, list) or len(values) != len(levels) or not all(map(is_number, values)):
            return f"{name!r} must have {len(levels)} finite values, one for each level of the plan"
        if any(low > high for low, high in pairwise(values)):
            return f"the values of {name!r} must not fall"
    return None if metrics else "the reply has no sketches"


def is_number(value: object) -> bool:
    """Whether something is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def form_of(reply: Reply) -> Form:
    """What a reply to a question of the calibration reports: figures and arrays by name, with the arrays' shapes."""
    return frozenset([(name, ()) for name in reply.metrics] + [(name, of.shape) for name, of in reply.weights.items()])


def usual_form(replies: Sequence[Reply]) -> Form:
    """The form that most replies have; of equally many, the first."""
    return Counter(form_of(reply) for reply in replies).most_common(1)[0][0]


def pool_moments(moments: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Moments of all scores from each worker's: exact, as if the scores lay in one place.

    The variance is the mean of the workers' variances plus the variance of their means, both weighted by count.

    Args:
        moments: of each worker; all have the detectors of the first.
    """
    pooled = {}
    for name in moments[0]:
        count, mean, std = (np.array([of[name][key] for of in moments]) for key in ("count", "mean", "std"))
        centre = float((count * mean).sum() / count.sum())
        variance = float((count * (std**2 + (mean - centre) ** 2)).sum() / count.sum())
        pooled[name] = {"count": int(count.sum()), "mean": centre, "std": math.sqrt(variance)}
    return pooled


def pool_sketches(sketches: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> dict[str, dict[str, Any]]:
    """The sketch of all scores from each worker's, at the same levels.

    Args:
        sketches: of each worker; all have the detectors of the first.
        levels: the levels that they have values for, rising from 0 to 1.
    """
    pooled = {}
    for name in sketches[0]:
        counts = [of[name]["count"] for of in sketches]
        values = mixture_quantiles(counts, [of[name]["values"] for of in sketches], levels)
        pooled[name] = {"count": int(sum(counts)), "values": values.tolist()}
    return pooled


def mixture_quantiles(
    counts: Sequence[float], quantiles: Sequence[Sequence[float]], levels: Sequence[float]
) -> np.ndarray:
    """Quantiles of all scores from each worker's: inverts the count-weighted mixture of their distributions.

    A worker's distribution function rises in straight lines through its quantiles, and jumps where they repeat. So does
    the mixture, between the union of their points; its quantile at a level is the lowest score at which it reaches it.

    Args:
        counts: number of scores of each worker.
        quantiles: each worker's at ``levels``.
        levels: rising from 0 (a worker's lowest score) to 1 (its highest).

    Returns:
        The mixture's quantiles at ``levels``, float64.
    """
    grid = np.asarray(levels, dtype=np.float64)
    shares = np.asarray(counts, dtype=np.float64) / np.sum(counts)
    rows = [np.asarray(row, dtype=np.float64) for row in quantiles]
    points = np.unique(np.concatenate(rows))
    below, upto = np.zeros_like(points), np.zeros_like(points)
    for share, row in zip(shares, rows, strict=True):
        # np.interp takes the last of repeated points: P(score <= point). Mirrored, it gives P(score < point).
        upto += share * np.interp(points, row, grid)
        below += share * (1.0 - np.interp(-points, -row[::-1], 1.0 - grid[::-1]))
    # A level that a height misses by rounding alone must not be looked for beyond the next gap.
    heights = np.round(np.maximum.accumulate(np.stack([below, upto], axis=1).ravel()), 12)
    places = np.repeat(points, 2)
    # Mirrored again: of all scores with the same height the lowest is meant.
    inverse: np.ndarray = -np.interp(-grid, -heights[::-1], -places[::-1])
    return inverse


def threshold(sketch: Mapping[str, Any], levels: Sequence[float], alpha: float) -> float:
    """The score above which a p-value is at most ``alpha``, as ``fedlmd.detection.Sketch`` has it.

    The server computes it once more without a network's library: what it decides on the self-test's images is what
    everybody who loads the release must decide.
    """
    count = sketch["count"]
    ranks = np.ceil(np.round(np.asarray(levels) * (count - 1), 9)) + 1
    enough = np.flatnonzero((1 + count - ranks) / (1 + count) <= alpha)
    return float(sketch["values"][enough[0]]) if len(enough) else math.inf


def sites_of(replies: Sequence[Reply]) -> dict[str, Any]:
    """Each worker's own sketches by its name; none where two workers share a name, as nobody could tell them apart."""
    sites = {reply.worker: dict(reply.metrics) for reply in replies}
    return sites if len(sites) == len(replies) else {}


def finish_release(
    plan: Plan,
    weights: Mapping[str, np.ndarray],
    last_round: Mapping[str, Any],
    replies: Mapping[str, Sequence[Reply]],
) -> dict[str, Any]:
    """The card of the release.

    Args:
        plan: the run's plan; its card is the base.
        weights: the weights of the release.
        last_round: the event of the last round that changed the weights.
        replies: good replies to "moments" and to "thresholds".

    Returns:
        The base with "calibration" (moments, sketches, sites, workers), "metrics", "training" and, where the workers
        gave findings for it, "self_test" added; what the base already says under these names stays beside it.
    """
    moments, thresholds = replies["moments"], replies["thresholds"]
    pooled = pool_moments([reply.metrics for reply in moments])
    sketches = pool_sketches([reply.metrics for reply in thresholds], plan.levels)
    # What has moments but no sketch is no score but a figure, such as the accuracy.
    figures = [name for name in pooled if name not in sketches]
    added: dict[str, dict[str, Any]] = {
        "calibration": {
            "moments": {name: of for name, of in pooled.items() if name in sketches},
            "sketches": sketches,
            "sites": sites_of(thresholds),
            "workers": [reply.worker for reply in thresholds],
        },
        "metrics": {
            **{name: pooled[name]["mean"] for name in figures},
            "images": max((pooled[name]["count"] for name in figures), default=0),
            "workers": {reply.worker: {name: reply.metrics[name]["mean"] for name in figures} for reply in moments},
        },
        "training": {
            "run": plan.run,
            "rounds": plan.rounds,
            "strategy": asdict(plan.strategy),
            "workers": list(last_round.get("workers", [])),
            "parameters": int(sum(array.size for array in weights.values())),
        },
    }
    findings = thresholds[0].weights
    if LOGITS in findings:
        limit = threshold(sketches[VERDICT], plan.levels, plan.card["calibration"]["alpha"])
        added["self_test"] = SelfTest.of(findings, limit).to_json()
    return {**plan.card, **{key: {**plan.card.get(key, {}), **value} for key, value in added.items()}}
