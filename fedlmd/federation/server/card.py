"""The card of a release, from the workers' calibration: pooled moments and pooled sketches. Numbers only, never images.

A worker's *moments* are ``{detector: {"count", "mean", "std"}}``, a std having the divisor n. Its *sketches* are
``{detector: {"count", "values"}}``: quantiles of its scores at ``LEVELS``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedlmd.calibration import LEVELS, Reference, Sketch, pool_moments, pool_sketches
from fedlmd.federation.actions import MOMENTS, THRESHOLDS
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.release import LOGITS, VERDICT, SelfTest

Form = frozenset[tuple[str, tuple[int, ...]]]
"""The names of a reply's figures and arrays, with the arrays' shapes."""


def form_of(reply: Reply) -> Form:
    """The form of a reply."""
    arrays = [(name, array.shape) for name, array in reply.weights.items()]
    return frozenset([(name, ()) for name in reply.metrics] + arrays)


def most_common_form(replies: Sequence[Reply]) -> Form:
    """The form that most replies have; the first of several that are equally frequent."""
    return Counter(form_of(reply) for reply in replies).most_common(1)[0][0]


def sketches_by_worker(replies: Sequence[Reply]) -> dict[str, Any]:
    """Each worker's sketches by its name; none where two workers share a name, as nothing distinguishes them."""
    sketches = {reply.worker: dict(reply.metrics) for reply in replies}
    return sketches if len(sketches) == len(replies) else {}


def finish_release(
    plan: Plan,
    weights: Mapping[str, np.ndarray],
    last_round: Mapping[str, Any],
    replies: Mapping[str, Sequence[Reply]],
) -> dict[str, Any]:
    """The card of the release.

    Args:
        plan: the run's plan.
        weights: the weights of the release.
        last_round: the event of the last round that changed the weights.
        replies: good replies to "moments" and to "thresholds".

    Returns:
        "settings"; "calibration" (alpha, moments, sketches, sites, workers); "metrics"; "training"; and "self_test",
        where the workers gave outputs for it.
    """
    thresholds = replies[THRESHOLDS]
    pooled = pool_moments([reply.metrics for reply in replies[MOMENTS]])
    sketches = pool_sketches([reply.metrics for reply in thresholds], LEVELS)
    alpha = plan.settings["calibration"]["alpha"]
    card: dict[str, Any] = {
        "settings": plan.settings,
        "calibration": {
            "alpha": alpha,
            "moments": {name: moments for name, moments in pooled.items() if name in sketches},
            "sketches": sketches,
            "sites": sketches_by_worker(thresholds),
            "workers": [reply.worker for reply in thresholds],
        },
        # A name with moments but no sketch is not a score but a figure, such as the accuracy.
        "metrics": metrics_section(replies[MOMENTS], {n: pooled[n] for n in pooled if n not in sketches}),
        "training": training_section(plan, weights, last_round),
    }
    outputs = thresholds[0].weights
    if LOGITS in outputs:
        sketch = Sketch.from_json(sketches[VERDICT])
        card["self_test"] = SelfTest.of(outputs, Reference.of_sketch(sketch).threshold(alpha)).to_json()
    return card


def metrics_section(replies: Sequence[Reply], figures: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """The means of figures over all workers' images, how many images these are, and each worker's own means.

    Args:
        replies: good replies to "moments".
        figures: the pooled moments of each figure.
    """
    return {
        **{name: moments["mean"] for name, moments in figures.items()},
        "images": max((moments["count"] for moments in figures.values()), default=0),
        "workers": {reply.worker: {name: reply.metrics[name]["mean"] for name in figures} for reply in replies},
    }


def training_section(plan: Plan, weights: Mapping[str, np.ndarray], last_round: Mapping[str, Any]) -> dict[str, Any]:
    """How the weights were trained; arguments as for ``finish_release``."""
    return {
        "how": "federated",
        "run": plan.run,
        "rounds": plan.federation.rounds,
        "strategy": plan.federation.strategy,
        "workers": list(last_round.get("workers", [])),
        "parameters": int(sum(array.size for array in weights.values())),
    }
