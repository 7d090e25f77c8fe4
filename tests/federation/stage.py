"""Real Flower processes on this machine: a server, workers, and a trainer process for each."""

import secrets
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fedlmd.federation.engine import ServerEngine, WorkerEngine
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.federation.wire import TrainerClient


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_trainer(home, mode):
    client = TrainerClient(home / "line" / "t.sock", secrets.token_bytes(16))
    script = Path(__file__).parent / "numpy_trainer.py"
    return client, subprocess.Popen([sys.executable, script, client.socket_path, client.authkey.hex(), mode])


def group_members(groups):
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


class Stage:
    """A server whose workers come and go as a test says."""

    def __init__(self, home):
        self.home, self.workers, self.trainers = home, {}, {}
        self.engine = ServerEngine(home / "server", "127.0.0.1", free_port())
        self.gates = home / "gates"
        self.gates.mkdir()

    def add(self, name, mode):
        client, self.trainers[name] = start_trainer(self.home / name, mode)
        link = f"127.0.0.1:{self.engine.port}"
        self.workers[name] = WorkerEngine(self.home / name, name, link, free_port(), client.environment())
        self.workers[name].start()

    def groups(self):
        return {pid for pid in (*self.engine.pids.values(), *(worker.pid for worker in self.workers.values())) if pid}

    def stop(self):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda part: part.stop(), (*self.workers.values(), self.engine)))
        for trainer in self.trainers.values():
            trainer.kill()
            trainer.wait()

    def plan(self, run, *, slow=False, rounds=1, **changes):
        folder = self.engine.home / "runs" / f'the "{run}" run'
        settings = {"slow": slow, "gates": str(self.gates)}
        changes = {"min_workers": len(self.workers), **changes}
        plan = Plan(run, rounds, str(self.engine.home / "releases"), settings=settings, **changes)
        write_plan(folder, plan, {"classifier.w": np.zeros((2, 3), np.float32), "denoiser.w": np.ones(5, np.float32)})
        EventLog(folder).append("submitted")
        return folder

    def submit(self, run, **changes):
        folder = self.plan(run, **changes)
        self.engine.submit(folder)
        return folder

    def close(self, number):
        """Hold up this round until the gate is opened."""
        (self.gates / str(number)).touch()

    def open(self, number):
        (self.gates / str(number)).unlink()


@contextmanager
def stage(modes):
    """A server and these workers: mode by name."""
    # Short, because of the sockets' paths.
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        set_up = Stage(Path(folder))
        set_up.engine.start()
        for name, mode in modes.items():
            set_up.add(name, mode)
        groups = set_up.groups()
        try:
            yield set_up
        finally:
            groups |= set_up.groups()
            set_up.stop()
        assert group_members(groups) == []
