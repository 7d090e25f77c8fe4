"""The record of one round, from which its event is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedlmd.federation.events import EventLog


@dataclass
class RoundRecord:
    """The record of one round.

    Args:
        number: the round, from 1.
        asked: workers that were asked.
        began: when they were asked, in seconds of the monotonic clock.
        bytes_down: bytes that each of them was sent.
        workers: name and metrics of each good reply; beside its own metrics "bytes-down" and "bytes-up", and where the
            grid measures it, "seconds-reply" (from the request to the reply), "seconds-transfer" (the part of these in
            which the worker neither loaded images nor trained: transfer, Flower's processes and polling) and
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
        """End the round: record how long each good reply waited for it."""
        duration = time.monotonic() - self.began
        for worker in self.workers:
            metrics = worker["metrics"]
            if "seconds-reply" in metrics:
                metrics["seconds-waiting"] = round(max(0.0, duration - metrics["seconds-reply"]), 3)

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
    """How long a reply took, and how much of that was transfer, where both are known; in seconds."""
    if took is None:
        return {}
    parts = [metrics.get(f"seconds-{part}", 0.0) for part in ("loading", "training")]
    if "seconds-training" not in metrics or not all(isinstance(seconds, int | float) for seconds in parts):
        return {"seconds-reply": round(took, 3)}
    return {"seconds-reply": round(took, 3), "seconds-transfer": round(max(0.0, took - sum(parts)), 3)}


def most_asked(events: EventLog, last: Mapping[str, Any]) -> int:
    """How many workers a round of a run asked at most; ``last`` is the event of its last round."""
    return max(int(event["asked"]) for event in (last, *events.read()) if event.get("event", "round") == "round")
