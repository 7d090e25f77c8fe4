"""Client state: what a worker keeps between rounds, on disk, so that a trainer may restart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from safetensors import SafetensorError, safe_open

from fedlmd.release import Weights, write_arrays

log = logging.getLogger(__name__)

RUN, LOCAL, RESIDUAL = "run", "local/", "residual/"


@dataclass(frozen=True)
class RoundState:
    """What a worker keeps of one round.

    Args:
        local_layers: its local layers after the round, where the workers share only a part of a network.
        residual: the error-feedback residual of its compressed update, which is added to the next update after this
            one was averaged.
    """

    local_layers: Weights = field(default_factory=dict)
    residual: Weights = field(default_factory=dict)


@final
class ClientState:
    """What a worker keeps of a run's last rounds: enough to repeat any of them exactly.

    A resumed run may repeat a round; the worker then begins it with the state before that round.

    Args:
        folder: gets one file for each round, and is emptied for another run; None keeps all in this process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.run: str | None = None
        self.rounds: dict[int, RoundState] = {}

    def open(self, run: str) -> None:
        """Load the state of a run; that of another run is removed."""
        if run == self.run:
            return
        self.run, self.rounds = run, {}
        for path in self.files():
            try:
                number, state = read(path, run)
            except (OSError, ValueError, SafetensorError) as error:
                log.info("%s is not of the run %s and is removed (%s)", path, run, error)
                path.unlink(missing_ok=True)
            else:
                self.rounds[number] = state

    def local_layers(self, number: int) -> Weights:
        """The local layers before a round: those after the last round before it."""
        before = [done for done in self.rounds if done < number]
        return self.rounds[max(before)].local_layers if before else {}

    def residual(self, averaged: int) -> Weights:
        """The residual of the round whose update was averaged last (0: of none)."""
        return self.rounds[averaged].residual if averaged in self.rounds else {}

    def keep(self, number: int, state: RoundState, averaged: int = 0) -> None:
        """Keep a round, and of those before it only what a round can still begin with.

        On a full disk the state is lost with the process; the round itself still counts.
        """
        needed = {averaged, max((done for done in self.rounds if done < number), default=0)}
        self.rounds = {done: kept for done, kept in self.rounds.items() if done in needed} | {number: state}
        if self.folder is None or not (state.local_layers or state.residual):
            return
        arrays = {LOCAL + name: array for name, array in state.local_layers.items()}
        arrays |= {RESIDUAL + name: array for name, array in state.residual.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_arrays(self.file(number), arrays, {RUN: str(self.run)})
            for path in self.files():
                if path not in map(self.file, self.rounds):
                    path.unlink()
        except OSError as error:
            log.warning("round %d is kept in this process alone: %s", number, error)

    def clear(self) -> None:
        """Remove the state of a run that has ended."""
        self.run, self.rounds = None, {}
        for path in self.files():
            path.unlink(missing_ok=True)

    def file(self, number: int) -> Path:
        """The file of a round."""
        return (self.folder or Path()) / f"round-{number:03d}.safetensors"

    def files(self) -> list[Path]:
        """The files on disk."""
        return [] if self.folder is None else sorted(self.folder.glob("round-*.safetensors"))


def read(path: Path, run: str) -> tuple[int, RoundState]:
    """A round's number and state. Raises ValueError, OSError or SafetensorError for another run or no such file."""
    with safe_open(path, "numpy") as file:
        saved_run = (file.metadata() or {}).get(RUN)
        if saved_run != run:
            raise ValueError(f"it is of the run {saved_run}")
        arrays: Mapping[str, np.ndarray] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    parts = ({n.removeprefix(part): a for n, a in arrays.items() if n.startswith(part)} for part in (LOCAL, RESIDUAL))
    return int(path.stem.rpartition("-")[2]), RoundState(*parts)
