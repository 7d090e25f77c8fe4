"""What the server asks the workers outside of the rounds, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedlmd.federation.messages import Reply, Weights

__all__ = ["Answers", "Check", "Kept", "Question"]

Check = Callable[[Reply], str | None]
"""Why a reply is refused, or None."""
Kept = Callable[[Reply], Reply]
"""What stays of a reply."""


def whole(reply: Reply) -> Reply:
    """All of a reply stays."""
    return reply


@dataclass(frozen=True)
class Question:
    """One thing that all connected workers are asked for.

    Args:
        action: what it is.
        weights: sent with it.
        check: why a reply is refused.
        config: what the action needs beside the run's settings.
        kept: what stays of a good reply; it is called as each comes.
        patience: so many rounds' time the workers get for it.
    """

    action: str
    weights: Weights
    check: Check
    config: Mapping[str, Any] = field(default_factory=dict)
    kept: Kept = whole
    patience: int = 1


@dataclass(frozen=True)
class Answers:
    """What the workers said to one question.

    Args:
        asked: how many were asked.
        good: the replies to work with.
        refused: name and reason of each other reply.
        sizes: bytes of each reply that was good when it came.
    """

    asked: int
    good: list[Reply] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def event(self) -> dict[str, Any]:
        """The answers as the fields of an event."""
        told = {"workers": [reply.worker for reply in self.good], "refused": self.refused, "bytes-up": self.sizes}
        return {"asked": self.asked, **told}
