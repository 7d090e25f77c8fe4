"""The rounds that a run has behind it, and the last of them that it can go on from.

A round counts when it changed the weights, its line is in the diary and its file is whole. A round without a line is
trained again: the same seeds give it the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fedlmd.federation.events import RESUMED, EventLog
from fedlmd.federation.messages import Weights, check_update
from fedlmd.federation.plan import save_weights

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "first_checkpoint",
    "last_good",
    "load_checkpoint",
    "prefixed",
    "save_checkpoint",
    "stripped",
]

# The strategy's arrays lie in the same file as the weights, so that one rename makes both of them whole.
STATE = "strategy/"


class CheckpointError(ValueError):
    """A round that cannot be gone on from; the text says why."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands.

    Args:
        round: the last round that is done; 0 before the first.
        weights: the global weights after it.
        state: arrays that the strategy keeps from round to round beside the weights.
        event: that round's event; empty before the first.
    """

    round: int
    weights: Weights
    state: Weights = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(run_dir: Path, number: int, weights: Weights, state: Weights) -> None:
    """Keep what a round came to, whole or not at all. Raises NotWritten."""
    save_weights(file_of(run_dir, number), weights | prefixed(STATE, state))


def load_checkpoint(run_dir: Path, event: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> Checkpoint:
    """What a round came to.

    Args:
        run_dir: the run's folder.
        event: the round's event.
        expected: weights with the names, shapes and dtypes of the run's.

    Raises:
        CheckpointError: when the file is missing, not whole or of another model.
    """
    path = file_of(run_dir, event["round"])
    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing") from None
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} is not whole: {error}") from None
    state = stripped(STATE, arrays)
    weights = {name: array for name, array in arrays.items() if not name.startswith(STATE)}
    if reason := check_update(weights, expected):
        raise CheckpointError(f"{path.name} does not fit the run: {reason}")
    return Checkpoint(event["round"], weights, state, dict(event))


def last_good(run_dir: Path, expected: Mapping[str, np.ndarray]) -> tuple[int, list[str]]:
    """The last round of a run that it can go on from, 0 when there is none; and why later ones cannot."""
    skipped = []
    for number, event in sorted(counted(EventLog(run_dir).read()).items(), reverse=True):
        try:
            load_checkpoint(run_dir, event, expected)
        except CheckpointError as error:
            skipped.append(str(error))
        else:
            return number, skipped
    return 0, skipped


def first_checkpoint(run_dir: Path, initial: Weights) -> Checkpoint:
    """Where the run's process starts: at the round that the diary's last "resumed" names, or at the beginning.

    Raises:
        CheckpointError: when the round cannot be gone on from any more.
    """
    events = EventLog(run_dir)
    first = next(iter(events.attempt()), {})
    if first.get("event") != RESUMED or first["round"] == 0:
        return Checkpoint(0, initial)
    return load_checkpoint(run_dir, counted(events.read())[first["round"]], initial)


def counted(events: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The events of the rounds that changed the weights, by number; of one that was done again, the newest."""
    rounds: dict[int, Mapping[str, Any]] = {}
    for event in events:
        if event["event"] == RESUMED:
            rounds = {number: of for number, of in rounds.items() if number <= event["round"]}
        elif event["event"] == "round" and event["aggregated"]:
            rounds[event["round"]] = event
    return rounds


def file_of(run_dir: Path, number: int) -> Path:
    """Where a round's weights are."""
    return run_dir / f"round-{number:03d}.safetensors"


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> Weights:
    """The arrays under longer names."""
    return {prefix + name: array for name, array in arrays.items()}


def stripped(prefix: str, arrays: Mapping[str, np.ndarray]) -> Weights:
    """Those arrays that have the prefix, under their names without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
