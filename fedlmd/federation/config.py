"""Settings of federated training."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from fedlmd.choices import between
from fedlmd.federation.strategies import STRATEGIES

Compression = Literal["none", "8-bit", "4-bit"]
Merge = Literal["rounds", "partial", "average", "mixture", "union"]
Initial = Literal["common", "own"]
Weighting = Literal["images", "uniform"]

ONE_SHOT = ("average", "mixture", "union")
"""Merges in a single round, of denoisers that each worker trained by itself."""


@dataclass(frozen=True)
class FederationConfig:
    """How the workers train together.

    Args:
        rounds: communication rounds.
        strategy: how updates become one model, a name of ``fedlmd.federation.strategies.STRATEGIES``: "fedavg" (McMahan
            et al. 2017), "fedprox" (Li et al. 2020), "fedadam" (Reddi et al. 2021); and against Byzantine workers
            "median", "trimmed-mean" (both Yin et al. 2018) or "krum" (Blanchard et al. 2017), which hold all updates of
            a round in memory and need ``min_replies`` of 3, of ``1 / trim`` and of ``2 * byzantine + 3``.
        mu: strength of FedProx's pull towards the global weights, 0 or more.
        weighting: the weight of an update: "images" (the worker's number of them) or "uniform" (all workers count
            alike, as all do equally many steps). The Byzantine-robust strategies never use a worker's own figures.
        server_rate: FedAdam's step, above 0: about what a weight moves in a round.
        trim: share of the updates that the trimmed mean leaves out at each end, in (0, 0.5).
        byzantine: number of Byzantine workers that Krum tolerates, 0 or more.
        server_ema: the release gets the moving average of the global weights over the rounds with this decay, in
            [0, 1); 0 gives it the last round's. The rounds themselves continue from the weights without the average.
        min_workers: a round starts when so many workers are connected.
        min_replies: a round counts when so many good updates arrived; with fewer the old weights are kept.
        wait_seconds: the run fails when too few workers are connected after so many seconds.
        round_timeout: seconds after which a round ends without the workers that have not replied.
        max_failed_rounds: the run fails after so many rounds in a row that did not count.
        max_norm_ratio: an update is refused when the norm of its change is more than so many times the median of recent
            norms (norm thresholding, Sun et al. 2019): above 1, or 0 to refuse none. Needs three known norms.
        compression: what workers send: "none" (their weights, float32), "8-bit" or "4-bit" (quantised changes of the
            weights, a quarter or an eighth of the bytes); see ``fedlmd.federation.compression``.
        merge: how the workers' denoisers become one detector: "rounds" (averaged in every round, as the classifier is),
            "partial" (the same, but every worker keeps its local layers; used as a mixture), or in a single round after
            those of the classifier, each worker having trained its own: "average", "mixture" (predictions weighted by
            how well each explains the image) or "union" (an image is out-of-distribution only where it is to every
            worker's denoiser).
        initial: where a single round's denoisers start: from "common" weights, or each worker's from its "own".
        strategy_options: settings of a strategy of another package.
    """

    rounds: int = 6
    strategy: str = "fedavg"
    mu: float = 0.01
    min_workers: int = 2
    min_replies: int = 1
    wait_seconds: float = 120.0
    round_timeout: float = 900.0
    max_failed_rounds: int = 2
    max_norm_ratio: float = 10.0
    compression: Compression = "none"
    merge: Merge = "rounds"
    initial: Initial = "common"
    weighting: Weighting = "images"
    server_rate: float = 0.01
    trim: float = 0.2
    byzantine: int = 1
    server_ema: float = 0.0
    strategy_options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values out of range; the ValueError gives the range."""
        kinds = {"compression": Compression, "merge": Merge, "initial": Initial, "weighting": Weighting}
        for name, kind in kinds.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(get_args(kind))}")
        between(self, 1, math.inf, "rounds")
        between(self, 0, math.inf, "mu", "byzantine")
        between(self, 0, math.inf, "server_rate", "wait_seconds", "round_timeout", "max_failed_rounds", open_low=True)
        between(self, 0, 0.5, "trim", open_low=True, open_high=True)
        between(self, 0, 1, "server_ema", open_high=True)
        if not (self.max_norm_ratio == 0 or 1 < self.max_norm_ratio < math.inf):
            raise ValueError(f"max_norm_ratio is {self.max_norm_ratio}; it is above 1, or 0 to refuse no update")
        if not 1 <= self.min_replies <= self.min_workers:
            raise ValueError(f"min_replies is {self.min_replies}; it lies between 1 and min_workers {self.min_workers}")
        if self.initial == "own" and self.merge in ("rounds", "partial"):
            raise ValueError(
                f'initial is "own", but with the merge "{self.merge}" all workers start from common weights; set '
                'initial to "common", or merge to "average", "mixture" or "union"'
            )
        self.check_strategy()

    def check_strategy(self) -> None:
        """Refuse settings that the strategy cannot work with."""
        strategy = STRATEGIES[self.strategy]
        least = strategy.least_replies(self)
        if self.min_replies < least:
            raise ValueError(
                f"min_replies is {self.min_replies}; {self.strategy} needs {least} updates: set min_replies to {least} "
                "or more, and min_workers too"
            )
        if self.compression != "none" and strategy.holds_updates:
            raise ValueError(f'{self.strategy} takes whole weights: set compression to "none", or choose "fedavg"')
