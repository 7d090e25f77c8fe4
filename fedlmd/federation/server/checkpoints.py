"""Checkpoints: the rounds that a run has done, and the last of them that it can continue from.

A round counts when it changed the weights, its line is in the event log and its file is complete. A round without a
line is trained again: the same seeds give the same weights.
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
from fedlmd.federation.messages import check_update
from fedlmd.federation.plan import save_weights
from fedlmd.release import Weights

# The strategy's arrays are in the same file as the weights, so that one rename makes both of them complete.
STATE = "strategy/"


class CheckpointError(ValueError):
    """A round that a run cannot continue from; the text says why."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a round.

    Args:
        round: the number of the round; 0 before the first.
        weights: the global weights after it.
        state: arrays that the strategy keeps from round to round beside the weights.
        event: that round's event; empty before the first.
    """

    round: int
    weights: Weights
    state: Weights = field(default_factory=dict)
    event: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(run_dir: Path, number: int, weights: Weights, state: Weights) -> None:
    """Write the result of a round, completely or not at all. Raises NotWritten."""
    save_weights(file_of(run_dir, number), weights | prefixed(STATE, state))


def load_checkpoint(run_dir: Path, event: Mapping[str, Any], expected: Mapping[str, np.ndarray]) -> Checkpoint:
    """Read the result of a round.

    Args:
        run_dir: the run's folder.
        event: the round's event.
        expected: weights with the names, shapes and dtypes of the run's.

    Raises:
        CheckpointError: when the file is missing, incomplete or of another model.
    """
    path = file_of(run_dir, event["round"])
    try:
        arrays = load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path.name} is missing") from None
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"{path.name} is incomplete: {error}") from None
    state = stripped(STATE, arrays)
    weights = {name: array for name, array in arrays.items() if not name.startswith(STATE)}
    if reason := check_update(weights, expected):
        raise CheckpointError(f"{path.name} does not fit the run: {reason}")
    return Checkpoint(event["round"], weights, state, dict(event))


def last_good(run_dir: Path, expected: Mapping[str, np.ndarray]) -> tuple[int, list[str]]:
    """The last round that a run can continue from, 0 when there is none; and why it cannot from later ones."""
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
    """Where the run's process starts: at the round that the last "resumed" event names, or at the beginning.

    Raises:
        CheckpointError: when the run can no longer continue from that round.
    """
    events = EventLog(run_dir)
    first = next(iter(events.attempt()), {})
    if first.get("event") != RESUMED or first["round"] == 0:
        return Checkpoint(0, initial)
    return load_checkpoint(run_dir, counted(events.read())[first["round"]], initial)


def counted(events: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The events of the rounds that changed the weights, by number; the newest of a round that was repeated."""
    rounds: dict[int, Mapping[str, Any]] = {}
    for event in events:
        if event["event"] == RESUMED:
            rounds = {number: rounds[number] for number in rounds if number <= event["round"]}
        elif event["event"] == "round" and event["aggregated"]:
            rounds[event["round"]] = event
    return rounds


def file_of(run_dir: Path, number: int) -> Path:
    """The file of a round's weights."""
    return run_dir / f"round-{number:03d}.safetensors"


def prefixed(prefix: str, arrays: Mapping[str, np.ndarray]) -> Weights:
    """The arrays under longer names."""
    return {prefix + name: array for name, array in arrays.items()}


def stripped(prefix: str, arrays: Mapping[str, np.ndarray]) -> Weights:
    """Those arrays that have the prefix, under their names without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
