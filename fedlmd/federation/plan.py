"""The plan of a run: written by a node before the start, carried out by the server's Flower process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedlmd.federation.config import FederationConfig
from fedlmd.release import write_arrays

PLAN, INITIAL = "plan.json", "initial.safetensors"


class PlanError(ValueError):
    """A plan that cannot be carried out; the text says what to change."""


class NotWritten(RuntimeError):  # noqa: N818 - the name says it
    """A file of the run could not be written; the text says which and why."""


@dataclass(frozen=True)
class Plan:
    """One run.

    Args:
        run: its id.
        releases_dir: folder of the server's releases.
        settings: of the run, as JSON; sent to the workers unchanged.
        local_layers: prefixes of the weights that stay at each worker with the merge "partial".
    """

    run: str
    releases_dir: str
    settings: dict[str, Any] = field(default_factory=dict)
    local_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse impossible federation settings. Raises PlanError."""
        _ = self.federation

    @property
    def federation(self) -> FederationConfig:
        """How the workers train together: the settings' own section. Raises PlanError."""
        try:
            return FederationConfig(**self.settings.get("federation", {}))
        except (TypeError, ValueError) as error:
            raise PlanError(f"the plan's federation settings cannot be carried out: {error}") from None

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> Plan:
        """A plan from the file's object. Raises PlanError for an unknown, a missing or an impossible entry."""
        known = [item.name for item in fields(cls)]
        if unknown := sorted(entries.keys() - set(known)):
            raise PlanError(f"the plan has an unknown entry {unknown[0]!r}; known are {', '.join(known)}")
        try:
            return cls(**{**entries, "local_layers": tuple(entries.get("local_layers", ()))})
        except (AttributeError, TypeError) as error:
            raise PlanError(f"the plan does not fit: {error}") from None

    def to_json(self) -> dict[str, Any]:
        """The file's object."""
        return asdict(self)


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
