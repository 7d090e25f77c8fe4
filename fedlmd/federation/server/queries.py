"""Queries of the server to the workers outside of the rounds, and their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedlmd.federation.messages import Reply
from fedlmd.release import Weights

Check = Callable[[Reply], str | None]
"""Why a reply is refused, or None."""
Reduce = Callable[[Reply], Reply]
"""The part of a reply that is kept."""


def whole(reply: Reply) -> Reply:
    """Keep all of a reply."""
    return reply


@dataclass(frozen=True)
class Query:
    """One request to all connected workers.

    Args:
        action: one of ``fedlmd.federation.actions``.
        weights: sent with it.
        check: why a reply is refused.
        config: what the action needs beside the run's settings.
        reduce: the part of a good reply that is kept; called as each arrives.
        timeout_rounds: the timeout, in multiples of the settings' ``round_timeout``.
    """

    action: str
    weights: Weights
    check: Check
    config: Mapping[str, Any] = field(default_factory=dict)
    reduce: Reduce = whole
    timeout_rounds: int = 1


@dataclass(frozen=True)
class QueryResult:
    """The workers' replies to one query.

    Args:
        asked: number of workers that were asked.
        good: the replies that passed the check.
        refused: name and reason of each other reply.
        sizes: bytes of each reply that was good when it arrived.
    """

    asked: int
    good: list[Reply] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def refuse(self, positions: Sequence[int], reason: str) -> None:
        """Move the good replies at these positions, in rising order, to the refused ones."""
        for position in reversed(positions):
            self.refused.append({"name": self.good.pop(position).worker, "reason": reason})

    def event(self) -> dict[str, Any]:
        """The result as the fields of an event."""
        workers = [reply.worker for reply in self.good]
        return {"asked": self.asked, "workers": workers, "refused": self.refused, "bytes-up": self.sizes}
