"""Settings of how the sites train together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fedlmd.aggregation import ROBUST, least_replies

__all__ = ["FederationConfig"]


@dataclass(frozen=True)
class FederationConfig:
    """How the sites train together.

    Args:
        rounds: communication rounds.
        strategy: how updates become one model: "fedavg" (McMahan et al. 2017), "fedprox" (Li et al. 2020), "fedadam"
            (Reddi et al. 2021); and where some workers may lie "median", "trimmed-mean" (both Yin et al. 2018) or
            "krum" (Blanchard et al. 2017), which hold all updates of a round in memory and need ``min_replies`` of 3,
            of ``1 / trim`` and of ``2 * byzantine + 3``.
        mu: strength of FedProx's pull towards the global weights, 0 or more.
        weighting: what an update counts by: "images" (its site's number of them) or "uniform" (all sites count alike,
            as all do equally many steps). The strategies for lying workers never ask what a worker says of itself.
        server_rate: FedAdam's step, above 0: about what a weight moves in a round.
        trim: share of the updates that the trimmed mean leaves out at each end, in (0, 0.5).
        byzantine: lying workers that Krum is to bear, 0 or more.
        server_ema: the release gets the moving average of the global weights over the rounds with this decay, in
            [0, 1); 0 gives it the last round's. The rounds themselves go on from the weights as they are.
        min_workers: a round starts when so many workers are there.
        min_replies: a round counts when so many good updates came back; with fewer the old weights are kept.
        wait_seconds: the run fails when it waited so long for workers.
        round_timeout: seconds after which a round goes on without the workers that have not replied.
        max_failed_rounds: the run fails after so many rounds in a row that did not count.
        max_norm_ratio: a worker's update is refused when it changes the weights more than so many times as much as
            updates usually do (norm thresholding, Sun et al. 2019): above 1, or 0 to refuse none. From three norms on.
        compression: what workers send: "none" (their weights, float32), "8-bit" or "4-bit" (how the weights changed,
            a quarter or an eighth of the bytes); see ``fedlmd.compression``.
        merge: how the sites' denoisers become one detector: "rounds" (averaged in every round, as the classifier is),
            "partial" (the same, but every site keeps its last layers; used as a mixture), or in a single round after
            those of the classifier, each site having trained its own: "average", "mixture" (predictions weighted by
            how well each explains the image) or "union" (an image is strange only where it is to every site).
        initial: where a single round's denoisers start: from "common" weights, or each site's from its "own".
    """

    rounds: int = 6
    strategy: Literal["fedavg", "fedprox", "fedadam", "median", "trimmed-mean", "krum"] = "fedavg"
    mu: float = 0.01
    min_workers: int = 2
    min_replies: int = 1
    wait_seconds: float = 120.0
    round_timeout: float = 900.0
    max_failed_rounds: int = 2
    max_norm_ratio: float = 10.0
    compression: Literal["none", "8-bit", "4-bit"] = "none"
    merge: Literal["rounds", "partial", "average", "mixture", "union"] = "rounds"
    initial: Literal["common", "own"] = "common"
    weighting: Literal["images", "uniform"] = "images"
    server_rate: float = 0.01
    trim: float = 0.2
    byzantine: int = 1
    server_ema: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least 1 is needed")
        if not 0 <= self.mu < math.inf:
            raise ValueError(f"mu is {self.mu}; it is 0 or more")
        for name in ("server_rate", "wait_seconds", "round_timeout", "max_failed_rounds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is above 0")
        if not (self.max_norm_ratio == 0 or 1 < self.max_norm_ratio < math.inf):
            raise ValueError(f"max_norm_ratio is {self.max_norm_ratio}; it is above 1, or 0 to refuse no update")
        if not 1 <= self.min_replies <= self.min_workers:
            raise ValueError(f"min_replies is {self.min_replies}; it lies between 1 and min_workers {self.min_workers}")
        if self.initial == "own" and self.merge in ("rounds", "partial"):
            raise ValueError(
                f'initial is "own", but with the merge "{self.merge}" all sites start from common weights; set initial '
                'to "common", or merge to "average", "mixture" or "union"'
            )
        self.check_strategy()

    def check_strategy(self) -> None:
        """Refuse what the strategy cannot work with."""
        if not 0 < self.trim < 0.5:
            raise ValueError(f"trim is {self.trim}; it lies between 0 and 0.5")
        if self.byzantine < 0:
            raise ValueError(f"byzantine is {self.byzantine}; it is 0 or more")
        if not 0 <= self.server_ema < 1:
            raise ValueError(f"server_ema is {self.server_ema}; it is 0 or more and below 1")
        least = least_replies(self.strategy, self.trim, self.byzantine)
        if self.min_replies < least:
            raise ValueError(
                f"min_replies is {self.min_replies}; {self.strategy} needs {least} updates: set min_replies to {least} "
                "or more, and min_workers too"
            )
        if self.compression != "none" and self.strategy in ROBUST:
            raise ValueError(f'{self.strategy} takes whole weights: set compression to "none", or choose "fedavg"')
