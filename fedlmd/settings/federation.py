"""Settings of how the sites train together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["FederationConfig"]


@dataclass(frozen=True)
class FederationConfig:
    """How the sites train together.

    Args:
        rounds: communication rounds.
        strategy: "fedavg" (McMahan et al. 2017) or "fedprox" (Li et al. 2020).
        mu: strength of FedProx's pull towards the global weights, 0 or more.
        min_workers: a round starts when so many workers are there.
        min_replies: a round counts when so many good updates came back; with fewer the old weights are kept.
        wait_seconds: the run fails when it waited so long for workers.
        round_timeout: seconds after which a round goes on without the workers that have not replied.
        max_failed_rounds: the run fails after so many rounds in a row that did not count.
        compression: what workers send: "none" (their weights, float32) or "8-bit" (how the weights changed, a quarter
            of the bytes); see ``fedlmd.compression``.
        merge: how the sites' denoisers become one detector: "rounds" (averaged in every round, as the classifier is),
            "partial" (the same, but every site keeps its last layers; used as a mixture), or in a single round after
            those of the classifier, each site having trained its own: "average", "mixture" (predictions weighted by
            how well each explains the image) or "union" (an image is strange only where it is to every site).
        initial: where a single round's denoisers start: from "common" weights, or each site's from its "own".
    """

    rounds: int = 6
    strategy: Literal["fedavg", "fedprox"] = "fedavg"
    mu: float = 0.01
    min_workers: int = 2
    min_replies: int = 1
    wait_seconds: float = 120.0
    round_timeout: float = 900.0
    max_failed_rounds: int = 2
    compression: Literal["none", "8-bit"] = "none"
    merge: Literal["rounds", "partial", "average", "mixture", "union"] = "rounds"
    initial: Literal["common", "own"] = "common"

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least 1 is needed")
        if not 0 <= self.mu < math.inf:
            raise ValueError(f"mu is {self.mu}; it is 0 or more")
        for name in ("wait_seconds", "round_timeout", "max_failed_rounds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is above 0")
        if not 1 <= self.min_replies <= self.min_workers:
            raise ValueError(f"min_replies is {self.min_replies}; it lies between 1 and min_workers {self.min_workers}")
