"""Merges of the workers' denoisers where they are not averaged in every round."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fedlmd.federation.messages import NUM_EXAMPLES, Reply, check_update
from fedlmd.federation.plan import Plan
from fedlmd.release import Weights

DENOISER = "denoiser."

FIGURES = ("labels", "means", "stds")


def shared(plan: Plan, weights: Mapping[str, np.ndarray]) -> Weights:
    """Those of a run's weights that server and workers exchange in every round.

    Args:
        plan: of the run.
        weights: all of them.
    """
    local = tuple(DENOISER + layer for layer in plan.local_layers)
    kept = {"rounds": (), "partial": local}.get(plan.federation.merge, (DENOISER,))
    return {name: array for name, array in weights.items() if not name.startswith(kept)}


def check_denoiser(reply: Reply, expected: Mapping[str, np.ndarray], labels: int) -> str | None:
    """Why a worker's denoiser is refused, or None.

    Args:
        reply: the denoiser's weights, the number of the worker's images in all ("num-examples") and of each label
            ("labels"), and the "means" and "stds" of the scores that use the denoiser, on held-back images.
        expected: weights with the names, shapes and dtypes of a run's.
        labels: number of the run's labels.
    """
    denoiser = {name: array for name, array in expected.items() if name.startswith(DENOISER)}
    if reason := check_update(reply.weights, denoiser):
        return reason
    for name in FIGURES:
        values = reply.metrics.get(name)
        if not isinstance(values, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            return f"{name!r} must be a list of finite numbers, not {values!r}"
    counts, means, stds = (reply.metrics[name] for name in FIGURES)
    if len(counts) != labels or min(counts) < 0 or sum(counts) <= 0:
        return f"'labels' must hold {labels} numbers of images, not {counts}"
    if len(means) != len(stds) or min(stds, default=0) < 0:
        return f"'means' and 'stds' must be of the same scores, and no std below 0; they are {means} and {stds}"
    return None


def merged(merge: str, replies: Sequence[Reply]) -> Weights:
    """The merged denoiser's arrays.

    Args:
        merge: "average" (weighted by number of images), or "partial", "mixture" or "union", which keep every worker's.
        replies: of all workers; each has passed ``check_denoiser``.

    Returns:
        With "average" arrays of the names of a single denoiser; else those of ``fedlmd.models.Ensemble``:
        ``denoiser.members.<k>.<name>``, ``denoiser.shares`` (K, C), ``denoiser.means`` and ``denoiser.stds`` (K, D).
    """
    if merge == "average":
        return averaged(replies)
    members = {
        f"{DENOISER}members.{number}.{name.removeprefix(DENOISER)}": array
        for number, reply in enumerate(replies)
        for name, array in reply.weights.items()
    }
    counts, means, stds = (np.array([reply.metrics[name] for reply in replies], np.float32) for name in FIGURES)
    shares = counts / np.maximum(counts.sum(0), 1)
    return members | {DENOISER + "shares": shares, DENOISER + "means": means, DENOISER + "stds": stds}


def averaged(replies: Sequence[Reply]) -> Weights:
    """The mean of the workers' arrays, weighted by number of images."""
    counts = np.array([reply.metrics[NUM_EXAMPLES] for reply in replies], np.float64)
    stacked = {name: np.stack([reply.weights[name] for reply in replies]) for name in replies[0].weights}
    return {
        name: np.tensordot(counts / counts.sum(), arrays, axes=1).astype(np.float32) for name, arrays in stacked.items()
    }
