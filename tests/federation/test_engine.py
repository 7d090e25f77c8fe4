"""Real Flower processes on this machine: a server, three workers, and a trainer process for each."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedlmd import artifacts
from fedlmd.federation.engine import EngineError, ServerEngine, WorkerEngine
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.federation.wire import TrainerClient

MODES = {"site-0": "good", "site-1": "good", "site-2": "nan"}


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


@pytest.fixture(scope="module")
def server():
    # Short, because of the sockets' paths.
    with tempfile.TemporaryDirectory(prefix="fl-") as folder:
        home, port = Path(folder), free_port()
        engine = ServerEngine(home / "server", "127.0.0.1", port)
        engine.start()
        trainers, workers = [], []
        for name, mode in MODES.items():
            client, trainer = start_trainer(home / name, mode)
            trainers.append(trainer)
            workers.append(WorkerEngine(home / name, name, f"127.0.0.1:{port}", free_port(), client.environment()))
            workers[-1].start()
        groups = {pid for pid in (*engine.pids.values(), *(worker.pid for worker in workers)) if pid}
        try:
            yield engine
        finally:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda part: part.stop(), (*workers, engine)))
            for trainer in trainers:
                trainer.kill()
                trainer.wait()
        assert group_members(groups) == []


def submit(server, run, *, slow=False, **changes):
    folder = server.home / "runs" / f'the "{run}" run'
    plan = Plan(run, 1, str(server.home / "releases"), min_workers=3, settings={"slow": slow}, **changes)
    write_plan(folder, plan, {"classifier.w": np.zeros((2, 3), np.float32), "denoiser.w": np.ones(5, np.float32)})
    EventLog(folder).append("submitted")
    server.submit(folder)
    return folder


def test_a_whole_run_makes_a_release_and_refuses_the_worker_that_sends_nan(server):
    folder = submit(server, "whole", card={"labels": ["0"], "calibration": {"alpha": 0.05}})
    events = list(server.follow(folder, silence=0.5))
    kinds = [event["event"] for event in events if event["event"] not in ("submitted", "waiting")]
    assert kinds == ["started", "refused", "round", *["calibrating"] * 3, "installed", "finished"]
    by_kind = {event["event"]: event for event in events}
    assert (by_kind["refused"]["worker"], by_kind["refused"]["round"]) == ("site-2", 1)
    assert "not finite" in by_kind["refused"]["reason"]
    one = by_kind["round"]
    assert sorted(worker["name"] for worker in one["workers"]) == ["site-0", "site-1"]
    assert one["metrics"] == {"accuracy": pytest.approx(0.1), "seen": 0.0}
    assert (one["asked"], one["aggregated"], one["rounds"]) == (3, True, 1)
    weights = load_file(folder / "round-001.safetensors")
    np.testing.assert_array_equal(weights["classifier.w"], np.ones((2, 3), np.float32))

    release = artifacts.load(server.home / "releases" / by_kind["finished"]["release"])
    np.testing.assert_array_equal(release.weights["denoiser.w"], np.full(5, 2, np.float16))
    calibration = release.card["calibration"]
    # That one worker's weights were broken does not keep its sums out.
    assert release.weights["gaussians.counts"].tolist() == [6, 0]
    assert release.weights["gaussians.means"].tolist() == [[2.0], [0.0]]
    assert release.weights["gaussians.covariances"].tolist() == [[1.0], [0.0]]
    assert calibration["moments"] == {"lmd": {"count": 30, "mean": 1.0, "std": 2.0}}
    np.testing.assert_allclose(calibration["sketches"]["lmd"]["values"], np.arange(30, 131))
    assert (calibration["alpha"], release.card["labels"]) == (0.05, ["0"])
    assert sorted(by_kind["finished"]["installed"]) == sorted(MODES)
    for name in MODES:
        stored = np.load(server.home.parent / name / "line" / f"{release.id}.npz")
        np.testing.assert_array_equal(stored["denoiser.w"], release.weights["denoiser.w"])
    deadline = time.monotonic() + 30
    while (status := server.status(folder)).status == "running":
        assert time.monotonic() < deadline
    assert status.status == "finished:completed"


def test_a_killed_run_gets_a_last_word_and_leaves_the_workers_free(server):
    folder = submit(server, "killed", slow=True)
    events = server.follow(folder, silence=0.5)
    started = next(event for event in events if event["event"] == "started")
    os.kill(started["pid"], signal.SIGKILL)
    *_, last = events
    assert (last["event"], last["kind"]) == ("failed", "ProcessDied")


def test_a_stopped_run_ends_as_stopped(server):
    folder = submit(server, "stopped", slow=True)
    events = server.follow(folder, silence=0.5)
    assert next(event for event in events if event["event"] == "started")
    server.stop_run(folder)
    *_, last = events
    assert last["event"] == "stopped", last


def test_a_run_that_flower_does_not_know_is_an_error(server, tmp_path):
    with pytest.raises(EngineError, match="was not submitted"):
        server.status(tmp_path)
    (tmp_path / "flower.json").write_text('{"run-id": "12345"}')
    with pytest.raises(EngineError, match="flwr ls failed"):
        server.status(tmp_path)


def test_a_taken_port_is_named(server, tmp_path):
    with pytest.raises(EngineError, match=f"port {server.port} of 127.0.0.1 cannot be used"):
        ServerEngine(tmp_path, "127.0.0.1", server.port).start()
