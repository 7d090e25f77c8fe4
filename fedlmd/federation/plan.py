"""The plan of a run: what a node decides before the start and the server's Flower process carries out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedlmd.aggregation import ROBUST, STRATEGIES, WEIGHTINGS, least_replies
from fedlmd.artifacts import write_arrays
from fedlmd.compression import BITS
from fedlmd.federation.merge import MERGES

__all__ = ["NotWritten", "Plan", "PlanError", "StrategyPlan", "read_plan", "save_weights", "write_plan"]

PERCENTS = tuple(percent / 100 for percent in range(101))
PLAN, INITIAL = "plan.json", "initial.safetensors"


class PlanError(ValueError):
    """A plan that cannot be carried out; the text says what to change."""


class NotWritten(RuntimeError):  # noqa: N818 - the name says it
    """The disk did not take a file of the run; the text says which and why."""


@dataclass(frozen=True)
class StrategyPlan:
    """How updates become one model.

    Args:
        name: "fedavg", "fedprox", "fedadam", "median", "trimmed-mean" or "krum"; see
            ``fedlmd.federation.strategies``.
        mu: FedProx's pull towards the last round's weights, 0 or above; 0 makes it FedAvg.
        weighting: what an update counts by: "images" (its worker's number of them) or "uniform" (all count alike).
        server_rate: FedAdam's step, above 0.
        trim: share of the updates that the trimmed mean leaves out at each end, in (0, 0.5).
        byzantine: lying workers that Krum is to bear, 0 or more.
        server_ema: decay of the moving average over the rounds that is released, in [0, 1); 0 releases the last round.
    """

    name: str = "fedavg"
    mu: float = 0.0
    weighting: str = "images"
    server_rate: float = 0.01
    trim: float = 0.2
    byzantine: int = 1
    server_ema: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no strategy takes."""
        if self.name not in STRATEGIES:
            raise PlanError(f"strategy {self.name!r} is unknown; known are {', '.join(STRATEGIES)}")
        if self.weighting not in WEIGHTINGS:
            raise PlanError(f"weighting {self.weighting!r} is unknown; known are {', '.join(WEIGHTINGS)}")
        if not 0 <= self.mu < math.inf:
            raise PlanError(f"mu is {self.mu}; it must be 0 or above")
        if not 0 < self.server_rate < math.inf:
            raise PlanError(f"server_rate is {self.server_rate}; it must be above 0")
        if not 0 < self.trim < 0.5:
            raise PlanError(f"trim is {self.trim}; it must lie between 0 and 0.5")
        if self.byzantine < 0:
            raise PlanError(f"byzantine is {self.byzantine}; it must be 0 or more")
        if not 0 <= self.server_ema < 1:
            raise PlanError(f"server_ema is {self.server_ema}; it must be 0 or above and below 1")

    @property
    def least_replies(self) -> int:
        """The fewest updates with which the strategy does what it is chosen for."""
        return least_replies(self.name, self.trim, self.byzantine)


@dataclass(frozen=True)
class Plan:
    """One run.

    Args:
        run: its name.
        rounds: rounds of training, 1 or more.
        releases_dir: folder of the server's releases; "releases-dir" in the file.
        strategy: how updates become one model.
        min_workers: a round starts when so many workers are connected, 1 or more.
        min_replies: fewer good updates than this leave the weights as they are, 1 to ``min_workers``.
        wait_seconds: how long a round waits for ``min_workers`` before the run fails.
        round_timeout: seconds after which a round does without the workers that have not answered.
        max_failed_rounds: so many rounds in a row without enough good updates end the run, 1 or more.
        max_norm_ratio: an update that changes the weights so many times as much as updates do is refused; above 1, or 0
            to refuse none.
        compression: what workers send: "none" (their weights), "8-bit" or "4-bit" (how the weights changed, quantised).
        merge: how the sites' denoisers become one detector, one of ``fedlmd.federation.merge.MERGES``.
        levels: levels of the sketches that workers make of their scores, rising from 0 to 1.
        settings: sent to the workers as they are.
        card: the base of the release's card.
    """

    run: str
    rounds: int
    releases_dir: str
    strategy: StrategyPlan = StrategyPlan()
    min_workers: int = 2
    min_replies: int = 1
    wait_seconds: float = 120.0
    round_timeout: float = 3600.0
    max_failed_rounds: int = 2
    max_norm_ratio: float = 10.0
    compression: str = "none"
    merge: str = "rounds"
    levels: tuple[float, ...] = PERCENTS
    settings: dict[str, Any] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse numbers with which the run could not go well."""
        for name in ("rounds", "min_workers", "min_replies", "max_failed_rounds"):
            if getattr(self, name) < 1:
                raise PlanError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.min_replies > self.min_workers:
            raise PlanError(f"min_replies is {self.min_replies}; it can be at most min_workers, {self.min_workers}")
        for name in ("wait_seconds", "round_timeout"):
            if getattr(self, name) <= 0:
                raise PlanError(f"{name} is {getattr(self, name)}; it must be above 0")
        if not (self.max_norm_ratio == 0 or 1 < self.max_norm_ratio < math.inf):
            raise PlanError(f"max_norm_ratio is {self.max_norm_ratio}; it must be above 1, or 0 to refuse no update")
        if self.compression not in ("none", *BITS):
            raise PlanError(f"compression {self.compression!r} is unknown; none, {' and '.join(BITS)} are known")
        if self.merge not in MERGES:
            raise PlanError(f"merge {self.merge!r} is unknown; {', '.join(MERGES)} are known")
        if self.min_replies < (least := self.strategy.least_replies):
            raise PlanError(
                f"min_replies is {self.min_replies}; {self.strategy.name} needs {least} updates: raise min_replies"
            )
        if self.compression != "none" and self.strategy.name in ROBUST:
            raise PlanError(f"{self.strategy.name} takes whole weights; compression must be none, or choose fedavg")
        if self.levels[:1] != (0.0,) or self.levels[-1:] != (1.0,) or any(a >= b for a, b in pairwise(self.levels)):
            raise PlanError("the levels must rise from 0 to 1")

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Plan:
        """A plan from the file's object. Raises PlanError for an unknown, a missing or an impossible entry."""
        known = {file_key(item.name): item.name for item in fields(cls)}
        if unknown := sorted(entries.keys() - known.keys()):
            raise PlanError(f"the plan has an unknown entry {unknown[0]!r}; known are {', '.join(sorted(known))}")
        values = {known[key]: value for key, value in entries.items()}
        try:
            strategy, levels = StrategyPlan(**values.get("strategy", {})), tuple(values.get("levels", PERCENTS))
            return cls(**{**values, "strategy": strategy, "levels": levels})
        except TypeError as error:
            raise PlanError(f"the plan does not fit: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The file's object."""
        return {file_key(name): value for name, value in asdict(self).items()}


def file_key(name: str) -> str:
    """A field's name in the file."""
    return "releases-dir" if name == "releases_dir" else name


def write_plan(run_dir: Path, plan: Plan, weights: Mapping[str, np.ndarray]) -> None:
    """Write a run's plan and its first weights; the folder is made when it is missing. Raises NotWritten."""
    run_dir.mkdir(parents=True, exist_ok=True)
    save_weights(run_dir / INITIAL, weights)
    (run_dir / PLAN).write_text(json.dumps(plan.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_plan(run_dir: Path) -> tuple[Plan, dict[str, np.ndarray]]:
    """A run's plan and its first weights. Raises PlanError when either is missing or unreadable."""
    try:
        plan = Plan.from_json(json.loads((run_dir / PLAN).read_text(encoding="utf-8")))
        return plan, load_file(run_dir / INITIAL)
    except PlanError:
        raise
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise PlanError(f"{run_dir} is not the folder of a run: {error}") from None


def save_weights(path: Path, weights: Mapping[str, np.ndarray]) -> None:
    """Write arrays as safetensors, whole or not at all. Raises NotWritten."""
    try:
        write_arrays(path, weights)
    except OSError as error:
        raise NotWritten(
            f"{path.name} could not be written to {path.parent} ({error.strerror}): make room there; "
            "what was written before is whole"
        ) from None
