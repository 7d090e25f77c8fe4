"""Real Flower processes on this machine, with trainers of plain numpy: a cluster for injecting faults."""

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

from benchmarks.numpy_trainer import CALLS, GATES, IMAGES, WorkerBehaviour
from fedlmd.federation.events import EventLog
from fedlmd.federation.flower.engine import ServerEngine
from fedlmd.federation.flower.processes import SupervisedProcess, flower_environment
from fedlmd.federation.flower.worker_engine import WorkerEngine
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.federation.trainer.client import TrainerClient, TrainerError
from fedlmd.node.cluster import free_port
from fedlmd.node.config import NodeConfig
from fedlmd.node.runs import ServerRuns

TRAINER_PATIENCE = 15.0
"""Seconds without a reply after which a trainer is restarted; fewer than a node's, as these trainers start at once."""

ALPHA = 0.05
"""The false-alarm rate that every run is calibrated for."""

INITIAL: dict[str, np.ndarray] = {
    "classifier.w": np.zeros((2, 3), np.float32),
    "denoiser.w": np.ones(5, np.float32),
}
"""The weights that every run starts from."""

T = TypeVar("T")


class ProcessesLeft(RuntimeError):  # noqa: N818 - the name says it
    """Processes of the cluster were left running."""


class WorkerProcesses:
    """A worker's processes: Flower's SuperNode, and a trainer.

    Args:
        home: its folder.
        name: its name.
        superlink: "host:port" of the server.
    """

    def __init__(self, home: Path, name: str, superlink: str) -> None:
        self.client = TrainerClient(home / "trainer" / "t.sock", secrets.token_bytes(16))
        (home / "logs").mkdir(parents=True, exist_ok=True)
        environment = {**flower_environment(home, "127.0.0.1"), **self.client.environment()}
        command = [sys.executable, "-m", "benchmarks.numpy_trainer", name]
        log = home / "logs" / "trainer.log"
        self.trainer = SupervisedProcess(
            command, environment, log, home, answers=self.client.answers, patience=TRAINER_PATIENCE
        )
        self.engine = WorkerEngine(home, name, superlink, free_port(), self.client.environment())

    def start(self) -> None:
        """Start both."""
        self.trainer.start()
        self.engine.start()

    def stop(self) -> None:
        """End both in order: the worker leaves the federation."""
        self.engine.stop()
        self.trainer.stop()

    def kill(self) -> None:
        """End both as a power failure would: without a message, and neither is restarted."""
        for pid in self.pids:
            os.killpg(pid, signal.SIGKILL)
        # Within the pause before a dead program is restarted.
        self.stop()

    @property
    def pids(self) -> list[int]:
        """Process ids, each of them also that of a process group."""
        return [pid for pid in (self.engine.pid, self.trainer.pid) if pid is not None]

    @property
    def busy(self) -> bool:
        """Whether the trainer works on a request."""
        try:
            return self.client.status().busy
        except TrainerError:
            return False


class FaultCluster:
    """A server, and workers that can be killed and started again.

    Args:
        home: folder for all of it; a short path, because of the trainers' sockets.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.workers: dict[str, WorkerProcesses] = {}
        self.engine = ServerEngine(home / "server", "127.0.0.1", free_port())
        for name in (GATES, CALLS):
            (home / name).mkdir()

    def add(self, name: str) -> WorkerProcesses:
        """Start a worker; one of that name may have been killed before."""
        self.workers[name] = WorkerProcesses(self.home / name, name, f"127.0.0.1:{self.engine.port}")
        self.workers[name].start()
        return self.workers[name]

    def kill(self, name: str) -> None:
        """Kill a worker's processes; it is gone without notice."""
        self.workers.pop(name).kill()

    def runs(self) -> ServerRuns:
        """The runs, managed as by the server's node."""
        return ServerRuns(self.engine, NodeConfig("server", "server", self.engine.home))

    def process_groups(self) -> set[int]:
        """Process groups of all running processes."""
        servers = {pid for pid in self.engine.pids.values() if pid is not None}
        return servers | {pid for worker in self.workers.values() for pid in worker.pids}

    def stop(self) -> None:
        """End all processes."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda processes: processes.stop(), (*self.workers.values(), self.engine)))

    def plan(
        self,
        run: str,
        *,
        behaviours: Mapping[str, WorkerBehaviour] | None = None,
        rounds: int = 1,
        **federation: Any,  # noqa: ANN401 - of FederationConfig
    ) -> Path:
        """Plan a run; returns its folder.

        Args:
            run: its name.
            behaviours: of workers, by name, where they differ from the default.
            rounds: rounds of training.
            **federation: settings of the plan's federation that differ from the default.
        """
        folder = self.engine.home / "runs" / f'the "{run}" run'
        settings = {
            "cluster": str(self.home),
            "workers": {name: asdict(behaviour) for name, behaviour in (behaviours or {}).items()},
            "calibration": {"alpha": ALPHA, "images": IMAGES},
            "federation": {"rounds": rounds, "min_workers": len(self.workers), **federation},
        }
        write_plan(folder, Plan(run, str(self.engine.home / "releases"), settings), INITIAL)
        EventLog(folder).append("submitted", run=run, rounds=rounds)
        return folder

    def submit(self, run: str, **changes: Any) -> Path:  # noqa: ANN401 - of ``plan``
        """Plan a run and submit it to Flower; returns its folder."""
        folder = self.plan(run, **changes)
        self.engine.submit(folder)
        return folder

    def close_gate(self, gate: int | str) -> None:
        """Block a round, or a step of the calibration by its action, at all workers until the gate is opened."""
        (self.home / GATES / str(gate)).touch()

    def open_gate(self, gate: int | str) -> None:
        """Unblock it."""
        (self.home / GATES / str(gate)).unlink()

    def all_busy(self) -> bool:
        """Whether the trainers of all workers work on a request."""
        return all(worker.busy for worker in self.workers.values())

    def calls(self, run: str) -> dict[str, list[int]]:
        """Which rounds of a run each worker was asked to train, in order."""
        rounds: dict[str, list[int]] = {}
        for file in sorted((self.home / CALLS).iterdir()):
            lines = (line.rpartition(" ") for line in file.read_text().splitlines())
            rounds[file.name] = [int(number) for name, _, number in lines if name == run]
        return rounds


@contextmanager
def fault_cluster(names: Iterable[str]) -> Iterator[FaultCluster]:
    """A server and these workers, running in a temporary folder.

    Raises:
        ProcessesLeft: at the end, when processes are left running.
    """
    # A short path, because of the trainers' sockets.
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        cluster = FaultCluster(Path(folder))
        groups: set[int] = set()
        try:
            cluster.engine.start()
            for name in names:
                cluster.add(name)
            groups |= cluster.process_groups()
            yield cluster
        finally:
            groups |= cluster.process_groups()
            cluster.stop()
        if left := group_members(groups):
            raise ProcessesLeft(f"processes were left running: {left}")


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


def wait_for(condition: Callable[[], T | None], seconds: float) -> T:
    """Wait until a condition gives something true; returns it. Raises TimeoutError after so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {seconds:.0f} seconds")
        time.sleep(0.1)
    return value
