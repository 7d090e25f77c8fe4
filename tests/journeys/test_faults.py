"""Faults in federated runs: real Flower processes are killed, a real disk is filled."""

import os
import signal
from dataclasses import replace
from operator import itemgetter

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from benchmarks.fault_cluster import fault_cluster
from benchmarks.fault_harness import WORKERS, FaultRun
from benchmarks.fault_list import FAULTS
from benchmarks.faults import inject
from benchmarks.numpy_trainer import WorkerBehaviour
from fedlmd.cli import app
from fedlmd.service.app import create_app
from fedlmd.service.server import in_background
from tests.service.training_host import TrainingHost


@pytest.fixture(scope="module")
def cluster():
    with fault_cluster(WORKERS) as running:
        yield running


@pytest.mark.slow
def test_an_update_a_hundred_times_too_large_is_refused_and_the_others_make_the_round(cluster):
    run = FaultRun(cluster, 100)
    run.start("large", behaviours={"worker-2": WorkerBehaviour(fault="scale")}, rounds=1)
    one = run.wait_for_event("round", round=1)
    assert [worker["name"] for worker in sorted(one["workers"], key=itemgetter("name"))] == ["worker-0", "worker-1"]
    [refused] = one["refused"]
    assert refused["name"] == "worker-2"
    assert "times as much as updates do" in refused["reason"]
    # Steps 0 and 1 on 1 and 2 examples: 0 / 2 + 1 + 2 / 3.
    weights = load_file(run.folder / "round-001.safetensors")["classifier.w"]
    np.testing.assert_allclose(weights, np.full((2, 3), 5 / 3), rtol=1e-6)
    cluster.engine.stop_run(run.folder)


def test_a_worker_whose_trainer_is_killed_in_a_round_replies_so_at_once_and_trains_in_the_next(cluster):
    run = FaultRun(cluster, 100)
    run.start("trainer", gates=[1], rounds=2)
    run.wait_for_round(1)
    os.kill(cluster.workers["worker-2"].trainer.pid, signal.SIGKILL)
    cluster.open_gate(1)
    one = run.wait_for_event("round", round=1)
    [refused] = one["refused"]
    assert refused["name"] == "worker-2"
    assert "the trainer went away in the middle of 'train'" in refused["reason"]
    assert (len(one["workers"]), one["aggregated"]) == (2, True)
    assert sorted(worker["name"] for worker in run.wait_for_event("round", round=2)["workers"]) == list(WORKERS)
    cluster.engine.stop_run(run.folder)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_run_survives(fault, tmp_path):
    row = inject(fault, 400.0, tmp_path)
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.problems == []


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_run_that_does_not_survive_its_fault_is_detected_and_its_logs_are_kept(tmp_path):
    fault = next(fault for fault in FAULTS if fault.name == "nan")
    # Expects that the worker's NaN is averaged, which is wrong.
    row = inject(replace(fault, rounds=(WORKERS, WORKERS, WORKERS)), 400.0, tmp_path)
    assert not row.survived
    assert "round 1 averaged worker-0, worker-1 instead of worker-0, worker-1, worker-2" in row.problems
    assert any(problem.startswith("classifier.w in round-001.safetensors is 1.6") for problem in row.problems)
    assert list(tmp_path.glob("server/runs/*/events.jsonl"))
    # A limit within which no step is done.
    row = inject(fault, 0.5, tmp_path)
    assert (row.hang, row.survived) == (True, False)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_killed_run_is_resumed_from_the_command_line(tmp_path):
    with fault_cluster(WORKERS) as running:
        run = FaultRun(running, 400)
        run.start("killed", gates=[2])
        run.wait_for_round(2)
        run.kill_run()
        assert run.wait_for_event("failed")["kind"] == "ProcessDied"
        running.open_gate(2)
        with in_background(create_app(TrainingHost(tmp_path, tmp_path, run.runs))) as url:
            result = CliRunner().invoke(app, ["federate", "--server", url, "--resume", run.folder.name])
        assert result.exit_code == 0, result.output
        assert "resumed after round 1 of 3" in result.stderr
        assert [event["round"] for event in run.events if event["event"] == "round"] == [1, 2, 3]
        run.by_hand = True
        run.finish()
        assert run.row("killed", "", "", (WORKERS, WORKERS, WORKERS), by_hand=True).problems == []
