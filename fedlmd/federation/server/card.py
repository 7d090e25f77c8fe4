"""The card of a release, from the workers' calibration: pooled moments and pooled sketches. Numbers only, never images.

A worker's *moments* are ``{detector: {"count", "mean", "std"}}``, a std having the divisor n. Its *sketches* are
``{detector: {"count", "values"}}``: quantiles of its scores at ``LEVELS``; and one under "evaluation", of the verdict's
score of evaluation images, which tells whether the promised false-alarm rate is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from fedlmd.calibration import (
    EVALUATION,
    HEAT,
    LEVELS,
    RIGHT,
    PromiseCheck,
    Reference,
    Sketch,
    check_sketches,
    pool_moments,
    pool_sketches,
    reference,
    right_of,
)
from fedlmd.federation.actions import MOMENTS, THRESHOLDS
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.release import LOGITS, VERDICT, SelfTest

NOTED = 12
"""Workers that a sentence of an event is about, at most."""

Form = frozenset[tuple[str, tuple[int, ...]]]
"""The names of a reply's figures and arrays, with the arrays' shapes."""


def form_of(reply: Reply) -> Form:
    """The form of a reply. A sketch of evaluation images may be missing."""
    arrays = [(name, array.shape) for name, array in reply.weights.items()]
    return frozenset([(name, ()) for name in reply.metrics if name != EVALUATION] + arrays)


def most_common_form(replies: Sequence[Reply]) -> Form:
    """The form that most replies have; the first of several that are equally frequent."""
    return Counter(form_of(reply) for reply in replies).most_common(1)[0][0]


def sketches_by_worker(replies: Sequence[Reply]) -> dict[str, Any]:
    """Each worker's sketches by its name; none where two workers share a name, as nothing distinguishes them."""
    sketches = {reply.worker: score_sketches(reply) for reply in replies}
    return sketches if len(sketches) == len(replies) else {}


def score_sketches(reply: Reply) -> dict[str, Any]:
    """The sketches of calibration scores in a reply to "thresholds", by the score's name."""
    return {name: sketch for name, sketch in reply.metrics.items() if name != EVALUATION}


def calibration_images(replies: Sequence[Reply]) -> int:
    """How many images the thresholds rest on, by the replies to "thresholds"; each sketch of a worker has the same."""
    return sum(int(next(iter(score_sketches(reply).values()))["count"]) for reply in replies)


def promise_section(calibration: Mapping[str, Any], replies: Sequence[Reply]) -> dict[str, Any]:
    """Whether the workers' evaluation images are called unknown as often as promised, together and at each worker.

    Args:
        calibration: that section of a card.
        replies: good replies to "thresholds".

    Returns:
        "promise", a ``PromiseCheck`` of all images against the calibration of all workers, with "workers": that of each
        worker's images against its own calibration. Nothing where no worker sent a sketch of evaluation images.
    """
    sent = [reply for reply in replies if EVALUATION in reply.metrics]
    if not sent or VERDICT not in calibration["sketches"]:
        return {}
    evaluated = [(reply.worker, Sketch.from_json(reply.metrics[EVALUATION])) for reply in sent]
    alpha = calibration["alpha"]
    own = {name: Sketch.from_json(sketches[VERDICT]) for name, sketches in calibration["sites"].items()}
    pooled = reference(own or {"": Sketch.from_json(calibration["sketches"][VERDICT])}, None)
    check = check_sketches(pooled, alpha, [sketch for _, sketch in evaluated])
    workers = {
        name: asdict(check_sketches(Reference.of_sketch(own[name]), alpha, [sketch]))
        for name, sketch in evaluated
        if name in own
    }
    return {"promise": {**asdict(check), "workers": workers}}


def promise_event(promise: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What the event log says of a card's "promise": numbers of all workers together, and sentences.

    The first sentence is of all workers together; one follows for each worker where the promise is not kept.
    """
    together = PromiseCheck.from_json(promise)
    each = {name: PromiseCheck.from_json(check) for name, check in promise["workers"].items()}
    broken = [f"{name}: {check.sentence}" for name, check in each.items() if not check.kept]
    more = [f"and at {len(broken) - NOTED} more workers"] if len(broken) > NOTED else []
    return asdict(together), [together.sentence, *broken[:NOTED], *more]


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
        "settings"; "calibration" (alpha, moments, sketches, sites, workers, and "promise", see ``promise_section``);
        "metrics"; "training"; and "self_test", where the workers gave outputs for it.
    """
    thresholds = replies[THRESHOLDS]
    pooled = pool_moments([reply.metrics for reply in replies[MOMENTS]])
    sketches = pool_sketches([score_sketches(reply) for reply in thresholds], LEVELS)
    alpha, scored = plan.settings["calibration"]["alpha"], {*sketches, HEAT, RIGHT, *map(right_of, sketches)}
    card: dict[str, Any] = {
        "settings": plan.settings,
        "calibration": {
            "alpha": alpha,
            "moments": {name: moments for name, moments in pooled.items() if name in scored},
            "sketches": sketches,
            "sites": sketches_by_worker(thresholds),
            "workers": [reply.worker for reply in thresholds],
        },
        # A name with moments but no sketch is not a score but a figure, such as the accuracy.
        "metrics": metrics_section(replies[MOMENTS], {n: pooled[n] for n in pooled if n not in scored}),
        "training": training_section(plan, weights, last_round),
    }
    card["calibration"] |= promise_section(card["calibration"], thresholds)
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
