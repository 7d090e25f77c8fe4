"""Real Flower processes on this machine: a server, three workers, and a trainer process for each."""

import os
import signal
import threading
import time
from importlib.metadata import version

import numpy as np
import pytest
from safetensors.numpy import load_file

from benchmarks.fault_cluster import fault_cluster
from benchmarks.numpy_trainer import IMAGES, WorkerBehaviour
from fedlmd.calibration import LEVELS
from fedlmd.federation.announcement import Announcement
from fedlmd.federation.events import EventLog
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.engine import ServerEngine
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.requests import announce
from fedlmd.federation.plan import read_plan
from fedlmd.federation.server.checkpoints import last_good
from fedlmd.release import load_release

WORKERS = ["worker-0", "worker-1", "worker-2"]


@pytest.fixture(scope="module")
def cluster():
    with fault_cluster(WORKERS) as running:
        yield running


@pytest.fixture
def server(cluster):
    return cluster.engine


def test_a_whole_run_makes_a_release_and_refuses_the_worker_that_sends_nan(cluster, server):
    folder = cluster.submit("whole", behaviours={"worker-2": WorkerBehaviour(fault="nan")})
    events = list(server.follow(folder, silence=0.5))
    kinds = [event["event"] for event in events if event["event"] not in ("submitted", "waiting")]
    assert kinds == ["started", "refused", "round", *["calibrating"] * 3, "installed", "finished"]
    by_kind = {event["event"]: event for event in events}
    assert (by_kind["refused"]["worker"], by_kind["refused"]["round"]) == ("worker-2", 1)
    assert "not finite" in by_kind["refused"]["reason"]
    one = by_kind["round"]
    assert sorted(worker["name"] for worker in one["workers"]) == ["worker-0", "worker-1"]
    assert one["metrics"] == {"accuracy": pytest.approx(0.1), "seen": 0.0}
    assert (one["asked"], one["aggregated"], one["rounds"]) == (3, True, 1)
    weights = load_file(folder / "round-001.safetensors")
    np.testing.assert_array_equal(weights["classifier.w"], np.full((2, 3), 0 / 2 + 1, np.float32))

    release = load_release(server.home / "releases" / by_kind["finished"]["release"])
    np.testing.assert_array_equal(release.weights["denoiser.w"], np.full(5, 1 / 2 + 1, np.float16))
    calibration = release.card["calibration"]
    # The sums of the worker whose weights were broken count all the same.
    assert release.weights["gaussians.counts"].tolist() == [6, 0]
    assert release.weights["gaussians.means"].tolist() == [[2.0], [0.0]]
    assert release.weights["gaussians.covariances"].tolist() == [[1.0], [0.0]]
    assert calibration["moments"] == {"lmd": {"count": 3 * IMAGES, "mean": 6.0, "std": 2.0}}
    np.testing.assert_allclose(calibration["sketches"]["lmd"]["values"], 3 * IMAGES + np.arange(len(LEVELS)))
    assert (calibration["alpha"], release.card["training"]["run"]) == (0.05, "whole")
    assert sorted(by_kind["finished"]["installed"]) == WORKERS
    assert (by_kind["finished"]["workers"], by_kind["finished"]["expected"]) == (2, 3)
    for name in WORKERS:
        stored = load_file(server.home.parent / name / "trainer" / f"{release.id}.safetensors")
        np.testing.assert_array_equal(stored["denoiser.w"], release.weights["denoiser.w"])
    deadline = time.monotonic() + 30
    while (status := server.commands.status(folder)).status == "running":
        assert time.monotonic() < deadline
    assert status.status == "finished:completed"


def test_a_killed_run_gets_a_final_event_leaves_the_workers_free_and_continues_with_the_round_it_was_in(
    cluster, server
):
    cluster.close_gate(2)
    folder = cluster.submit("killed", rounds=3)
    events = server.follow(folder, silence=0.5)
    started = next(event for event in events if event["event"] == "started")
    assert next(event for event in events if event["event"] == "round")
    os.kill(started["pid"], signal.SIGKILL)
    *_, last = events
    assert (last["event"], last["kind"]) == ("failed", "ProcessDied")
    cluster.open_gate(2)

    assert last_good(folder, read_plan(folder)[1]) == (1, [])
    EventLog(folder).append("resumed", round=1, rounds=3)
    server.submit(folder)
    events = server.follow(folder, silence=0.5)
    again = next(event for event in events if event["event"] == "round" and event["round"] > 1)
    server.stop_run(folder)
    # For the workers this is the second round, and it started from the result of the first: 0 / 2 + 1.
    assert (again["round"], again["rounds"]) == (2, 3)
    assert again["metrics"] == {"accuracy": pytest.approx(0.2), "seen": 1.0}
    weights = load_file(folder / "round-002.safetensors")
    np.testing.assert_array_equal(weights["classifier.w"], np.full((2, 3), 1 / 2 + 2, np.float32))
    np.testing.assert_array_equal(weights["denoiser.w"], np.full(5, 1.5 / 2 + 2, np.float32))
    assert [*events][-1]["event"] == "stopped"


def test_a_stopped_run_ends_as_stopped_and_to_stop_it_twice_is_no_error(cluster, server):
    folder = cluster.submit("stopped", behaviours={name: WorkerBehaviour(seconds=60) for name in WORKERS})
    events = server.follow(folder, silence=0.5)
    assert next(event for event in events if event["event"] == "started")
    server.stop_run(folder)
    server.stop_run(folder)
    *_, last = events
    assert last["event"] == "stopped", last
    assert [event["event"] for event in EventLog(folder).read()].count("stopped") == 1


def test_a_run_that_is_resumed_at_once_is_not_called_dead_by_who_followed_it_before(tmp_path, monkeypatch):
    """Between the resumption and its submission to Flower the run has no process, and its old one has failed."""
    monkeypatch.setattr("fedlmd.federation.flower.engine.START_SECONDS", 0.0)
    folder = tmp_path / "runs" / "r"
    folder.mkdir(parents=True)
    log = EventLog(folder)
    for event in ("submitted", "started", "failed", "resumed"):
        log.append(event)
    events = ServerEngine(tmp_path, "127.0.0.1", 1).follow(folder, silence=0.1)
    assert [next(events)["event"] for _ in range(4)] == ["submitted", "started", "failed", "resumed"]
    ended = threading.Timer(1.0, log.append, ["stopped"])
    ended.start()
    assert [event["event"] for event in events] == ["stopped"]
    ended.join()


def test_a_run_that_flower_does_not_know_is_an_error(server, tmp_path):
    with pytest.raises(EngineError, match="was not submitted"):
        server.commands.status(tmp_path)
    (tmp_path / "flower.json").write_text('{"run-id": "12345"}')
    with pytest.raises(EngineError, match="flwr ls failed"):
        server.commands.status(tmp_path)


def test_a_worker_that_announces_itself_is_listed_until_the_server_is_started_again(server):
    sent = Announcement("ward", "1", version("fedlmd"), version("flwr"), time.time(), labels=("cat",))
    assert announce(Address(server.host, server.port), sent).outcome == "accepted"
    [worker] = server.workers()
    assert (worker.name, worker.labels, worker.connected, worker.refused) == ("ward", ("cat",), True, None)
    os.kill(server.pids["superlink"], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while True:
        try:
            assert server.workers() == []
            break
        except EngineError:
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_the_secret_of_flowers_processes_is_for_this_user_alone(server):
    secret = server.home / "flower" / "superexec.secret"
    assert (secret.stat().st_mode & 0o777, secret.stat().st_size) == (0o600, 32)


def test_a_taken_port_is_named(server, tmp_path):
    with pytest.raises(EngineError, match=f"port {server.port} of 127.0.0.1 cannot be used"):
        ServerEngine(tmp_path, "127.0.0.1", server.port).start()
