"""What one round brought, as its event tells it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RoundRecord", "reasons_of", "seconds_of"]


@dataclass
class RoundRecord:
    """What one round brought.

    Args:
        number: the round, from 1.
        asked: workers that were asked.
        began: when they were, in seconds of the monotonic clock.
        bytes_down: that each of them was sent.
        workers: name and metrics of each good reply; beside its own metrics "bytes-down" and "bytes-up", and where the
            grid tells it, "seconds-reply" (from the question to the reply), "seconds-transfer" (those of them that the
            worker neither loaded images nor trained: the way of the weights, Flower's processes and looks) and
            "seconds-waiting" (from the reply to the end of the round, for the slower workers).
        refused: name and reason of each reply that was not averaged.
        metrics: the good replies' metrics, averaged by number of examples.
        aggregated: whether the round changed the weights.
    """

    number: int
    asked: int
    began: float = field(default_factory=time.monotonic)
    bytes_down: int = 0
    workers: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    aggregated: bool = False

    def end(self) -> None:
        """No reply is waited for any more: note how long each good one lay here until then."""
        took = time.monotonic() - self.began
        for worker in self.workers:
            metrics = worker["metrics"]
            if "seconds-reply" in metrics:
                metrics["seconds-waiting"] = round(max(0.0, took - metrics["seconds-reply"]), 3)

    def event(self) -> dict[str, Any]:
        """The record as the fields of an event."""
        return {
            "round": self.number,
            "asked": self.asked,
            "workers": self.workers,
            "refused": self.refused,
            "metrics": self.metrics,
            "aggregated": self.aggregated,
            "seconds": round(time.monotonic() - self.began, 2),
        }


def reasons_of(refused: list[dict[str, str]]) -> str:
    """Who was refused and why, in one line."""
    return "; ".join(f"{entry['name']}: {entry['reason']}" for entry in refused) or "no other reply came in time"


def seconds_of(metrics: Mapping[str, Any], took: float | None) -> dict[str, float]:
    """How long a reply took, and how much of that was the way to the worker and back, where both are known."""
    if took is None:
        return {}
    worked = [metrics.get(f"seconds-{part}", 0.0) for part in ("loading", "training")]
    if "seconds-training" not in metrics or not all(isinstance(of, int | float) for of in worked):
        return {"seconds-reply": round(took, 3)}
    return {"seconds-reply": round(took, 3), "seconds-transfer": round(max(0.0, took - sum(worked)), 3)}
