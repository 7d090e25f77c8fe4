"""Real Flower processes on this machine, with trainers of plain numpy: a stage on which a run can meet every mishap."""

from __future__ import annotations

import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fedlmd.bench.numpy_trainer import CALLS, GATES, Manner
from fedlmd.cluster import free_port
from fedlmd.federation.engine import ServerEngine, WorkerEngine
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.federation.processes import Child, flower_environment
from fedlmd.federation.wire import TrainerClient, TrainerError
from fedlmd.node import NodeConfig
from fedlmd.node.runs import ServerRuns

__all__ = ["INITIAL", "Stage", "StageError", "Worker", "stage", "wait_for"]

TRAINER_PATIENCE = 15.0
"""Seconds that a trainer may stand still; shorter than a node's, as trainers without torch start at once."""

INITIAL: dict[str, np.ndarray] = {
    "classifier.w": np.zeros((2, 3), np.float32),
    "denoiser.w": np.ones(5, np.float32),
}
"""The weights that every run starts from."""

Found = TypeVar("Found")


class StageError(RuntimeError):
    """Processes were left behind."""


class Worker:
    """A worker's processes: Flower's SuperNode, and a trainer.

    Args:
        home: its folder.
        name: its name.
        superlink: "host:port" of the server.
    """

    def __init__(self, home: Path, name: str, superlink: str) -> None:
        self.line = TrainerClient(home / "line" / "t.sock", secrets.token_bytes(16))
        (home / "logs").mkdir(parents=True, exist_ok=True)
        environment = {**flower_environment(home, "127.0.0.1"), **self.line.environment()}
        command = [sys.executable, "-m", "fedlmd.bench.numpy_trainer", name]
        log = home / "logs" / "trainer.log"
        self.trainer = Child(command, environment, log, home, answers=self.line.answers, patience=TRAINER_PATIENCE)
        self.engine = WorkerEngine(home, name, superlink, free_port(), self.line.environment())

    def start(self) -> None:
        """Start both."""
        self.trainer.start()
        self.engine.start()

    def stop(self) -> None:
        """End both politely: the worker leaves the federation."""
        self.engine.stop()
        self.trainer.stop()

    def kill(self) -> None:
        """End both as a power failure would: neither can say a word, and neither is started again."""
        for pid in self.pids:
            os.killpg(pid, signal.SIGKILL)
        # Faster than the pause before a dead program is started again.
        self.stop()

    @property
    def pids(self) -> list[int]:
        """Process ids, each of them also that of a process group."""
        return [pid for pid in (self.engine.pid, self.trainer.pid) if pid is not None]

    @property
    def busy(self) -> bool:
        """Whether the trainer works."""
        try:
            return self.line.status().busy
        except TrainerError:
            return False


class Stage:
    """A server whose workers come and go.

    Args:
        home: folder for all of it; a short path, because of the trainers' sockets.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.workers: dict[str, Worker] = {}
        self.engine = ServerEngine(home / "server", "127.0.0.1", free_port())
        for name in (GATES, CALLS):
            (home / name).mkdir()

    def add(self, name: str) -> Worker:
        """Start a worker, perhaps one of that name again."""
        self.workers[name] = Worker(self.home / name, name, f"127.0.0.1:{self.engine.port}")
        self.workers[name].start()
        return self.workers[name]

    def kill(self, name: str) -> None:
        """Let a worker disappear."""
        self.workers.pop(name).kill()

    def runs(self) -> ServerRuns:
        """The runs as the server's node has them."""
        return ServerRuns(self.engine, NodeConfig("server", "server", self.engine.home))

    def groups(self) -> set[int]:
        """Process groups of all that runs now."""
        servers = {pid for pid in self.engine.pids.values() if pid is not None}
        return servers | {pid for worker in self.workers.values() for pid in worker.pids}

    def stop(self) -> None:
        """End all processes."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda part: part.stop(), (*self.workers.values(), self.engine)))

    def plan(self, run: str, *, manners: Mapping[str, Manner] | None = None, rounds: int = 1, **changes: Any) -> Path:  # noqa: ANN401 - of Plan
        """Plan a run; returns its folder.

        Args:
            run: its name.
            manners: how workers behave, by name, those aside that behave as usual.
            rounds: rounds of training.
            **changes: of the plan.
        """
        folder = self.engine.home / "runs" / f'the "{run}" run'
        settings = {"stage": str(self.home), "workers": {name: asdict(of) for name, of in (manners or {}).items()}}
        entries = {"min_workers": len(self.workers), "settings": settings, **changes}
        write_plan(folder, Plan(run, rounds, str(self.engine.home / "releases"), **entries), INITIAL)
        EventLog(folder).append("submitted", run=run, rounds=rounds)
        return folder

    def submit(self, run: str, **changes: Any) -> Path:  # noqa: ANN401 - of ``plan``
        """Plan a run and hand it to Flower; returns its folder."""
        folder = self.plan(run, **changes)
        self.engine.submit(folder)
        return folder

    def close(self, gate: int | str) -> None:
        """Hold up a round, or a step of the calibration by its action, at all workers until the gate is opened."""
        (self.home / GATES / str(gate)).touch()

    def open(self, gate: int | str) -> None:
        """Let it go on."""
        (self.home / GATES / str(gate)).unlink()

    def at_work(self, names: Iterable[str] | None = None) -> bool:
        """Whether the trainers of these workers, or of all, work."""
        return all(self.workers[name].busy for name in (self.workers if names is None else names))

    def calls(self, run: str) -> dict[str, list[int]]:
        """Which rounds of a run each worker was asked for, in order."""
        asked: dict[str, list[int]] = {}
        for file in sorted((self.home / CALLS).iterdir()):
            lines = (line.rpartition(" ") for line in file.read_text().splitlines())
            asked[file.name] = [int(number) for name, _, number in lines if name == run]
        return asked


@contextmanager
def stage(names: Iterable[str]) -> Iterator[Stage]:
    """A server and these workers, at work in a temporary folder.

    Raises:
        StageError: at the end, when processes of the stage are left.
    """
    # A short path, because of the trainers' sockets.
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        built = Stage(Path(folder))
        groups: set[int] = set()
        try:
            built.engine.start()
            for name in names:
                built.add(name)
            groups |= built.groups()
            yield built
        finally:
            groups |= built.groups()
            built.stop()
        if left := group_members(groups):
            raise StageError(f"processes were left: {left}")


def group_members(groups: set[int]) -> list[int]:
    """Processes, zombies aside, of some process groups."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z" and int(group) in groups:
            members.append(int(stat.parent.name))
    return members


def wait_for(what: Callable[[], Found | None], seconds: float) -> Found:
    """Wait until something is so, and give what it is. Raises TimeoutError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {seconds:.0f} seconds")
        time.sleep(0.1)
    return found
