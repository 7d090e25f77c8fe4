"""What a site keeps from round to round beside the global weights, so that its trainer may die in between.

Needs numpy only.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
from safetensors import SafetensorError, safe_open

from fedlmd.artifacts import Weights, write_arrays

__all__ = ["Kept", "Memory"]

log = logging.getLogger(__name__)

RUN, OWN, OWED = "run", "own/", "owed/"


@dataclass(frozen=True)
class Kept:
    """What a site keeps of one round.

    Args:
        own: its own layers after the round, where the sites share only part of a network.
        owed: what its compressed update could not say; owed to the run once that update was averaged.
    """

    own: Weights = field(default_factory=dict)
    owed: Weights = field(default_factory=dict)


@final
class Memory:
    """What a site keeps of a run's last rounds: enough to do any of them again as it was done the first time.

    A run that is resumed asks for a round again that a site has done; the site begins it with what it had before it.

    Args:
        folder: gets one file for each round, and is emptied for another run; None keeps all in this process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.run: str | None = None
        self.rounds: dict[int, Kept] = {}

    def open(self, run: str) -> None:
        """Remember a run; what was kept of another one is forgotten."""
        if run == self.run:
            return
        self.run, self.rounds = run, {}
        for path in self.files():
            try:
                number, kept = read(path, run)
            except (OSError, ValueError, SafetensorError) as error:
                log.info("%s is not of the run %s and is removed (%s)", path, run, error)
                path.unlink(missing_ok=True)
            else:
                self.rounds[number] = kept

    def own(self, number: int) -> Weights:
        """The site's own layers as they were before a round: those of the last one before it."""
        before = [done for done in self.rounds if done < number]
        return self.rounds[max(before)].own if before else {}

    def owed(self, averaged: int) -> Weights:
        """What the site owes to a run in which its update of this round was averaged last (0: of none)."""
        return self.rounds[averaged].owed if averaged in self.rounds else {}

    def keep(self, number: int, kept: Kept, averaged: int = 0) -> None:
        """Keep a round, and of those before it only what a round can still begin with.

        A disk without room costs the site its memory after a restart, not the round that it has just done.
        """
        needed = {averaged, max((done for done in self.rounds if done < number), default=0)}
        self.rounds = {done: of for done, of in self.rounds.items() if done in needed} | {number: kept}
        if self.folder is None or not (kept.own or kept.owed):
            return
        arrays = {OWN + name: array for name, array in kept.own.items()}
        arrays |= {OWED + name: array for name, array in kept.owed.items()}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_arrays(self.file(number), arrays, {RUN: str(self.run)})
            for path in self.files():
                if path not in map(self.file, self.rounds):
                    path.unlink()
        except OSError as error:
            log.warning("round %d is kept in this process alone: %s", number, error)

    def forget(self) -> None:
        """The run's rounds are over."""
        self.run, self.rounds = None, {}
        for path in self.files():
            path.unlink(missing_ok=True)

    def file(self, number: int) -> Path:
        """Where a round is kept."""
        return (self.folder or Path()) / f"round-{number:03d}.safetensors"

    def files(self) -> list[Path]:
        """What is kept on disk."""
        return [] if self.folder is None else sorted(self.folder.glob("round-*.safetensors"))


def read(path: Path, run: str) -> tuple[int, Kept]:
    """A round's number and what was kept of it.

    Raises:
        ValueError, OSError, SafetensorError: where it is of another run, or no such file.
    """
    with safe_open(path, "numpy") as file:
        of = (file.metadata() or {}).get(RUN)
        if of != run:
            raise ValueError(f"it is of the run {of}")
        arrays: Mapping[str, np.ndarray] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    parts = ({n.removeprefix(of): a for n, a in arrays.items() if n.startswith(of)} for of in (OWN, OWED))
    return int(path.stem.rpartition("-")[2]), Kept(*parts)
