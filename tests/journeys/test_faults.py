"""What breaks in a federated run is broken here: real Flower processes are killed, a real disk is filled."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fedlmd.bench.faults import play
from fedlmd.bench.numpy_trainer import Manner
from fedlmd.bench.scene import Scene
from fedlmd.bench.scripts import FAULTS, SITES
from fedlmd.bench.stage import stage
from fedlmd.cli import app
from fedlmd.service import create_app, in_background
from tests.service.learning_host import LearningHost


@pytest.fixture(scope="module")
def cluster():
    with stage(SITES) as running:
        yield running


def test_an_update_a_hundred_times_too_large_is_refused_and_the_others_make_the_round(cluster):
    scene = Scene(cluster, 100)
    scene.begin("large", manners={"site-2": Manner(fault="scale")}, rounds=1)
    one = scene.seen("round", round=1)
    assert [worker["name"] for worker in sorted(one["workers"], key=lambda of: of["name"])] == ["site-0", "site-1"]
    [refused] = one["refused"]
    assert refused["name"] == "site-2"
    assert "times as much as updates do" in refused["reason"]
    # Steps 0 and 1 on 1 and 2 examples: 0 / 2 + 1 + 2 / 3.
    weights = load_file(scene.folder / "round-001.safetensors")["classifier.w"]
    np.testing.assert_allclose(weights, np.full((2, 3), 5 / 3), rtol=1e-6)
    cluster.engine.stop_run(scene.folder)


def test_a_worker_whose_trainer_is_killed_in_a_round_says_so_at_once_and_is_there_in_the_next(cluster):
    scene = Scene(cluster, 100)
    scene.begin("trainer", gates=[1], rounds=2)
    scene.reach(1)
    os.kill(cluster.workers["site-2"].trainer.pid, signal.SIGKILL)
    cluster.open(1)
    one = scene.seen("round", round=1)
    [refused] = one["refused"]
    assert refused["name"] == "site-2"
    assert "the trainer went away in the middle of 'train'" in refused["reason"]
    assert (len(one["workers"]), one["aggregated"]) == (2, True)
    assert sorted(worker["name"] for worker in scene.seen("round", round=2)["workers"]) == list(SITES)
    cluster.engine.stop_run(scene.folder)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_run_survives(fault, tmp_path):
    row = play(fault, 400.0, tmp_path)
    if row.skipped:
        pytest.skip(row.skipped)
    assert row.problems == []


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_fault_that_is_not_survived_is_found_and_its_logs_are_kept(tmp_path):
    fault = next(of for of in FAULTS if of.name == "nan")
    # As if the worker's NaN had to reach the average.
    row = play(replace(fault, rounds=(SITES, SITES, SITES)), 400.0, tmp_path)
    assert not row.survived
    assert "round 1 averaged site-0, site-1 instead of site-0, site-1, site-2" in row.problems
    assert any(problem.startswith("classifier.w in round-001.safetensors is 1.6") for problem in row.problems)
    assert list(tmp_path.glob("server/runs/*/events.jsonl"))
    # As if no worker ever answered.
    row = play(fault, 0.5, tmp_path)
    assert (row.hang, row.survived) == (True, False)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_killed_run_is_resumed_from_the_command_line(tmp_path):
    with stage(SITES) as running:
        scene = Scene(running, 400)
        scene.begin("killed", gates=[2])
        scene.reach(2)
        scene.kill_run()
        assert scene.seen("failed")["kind"] == "ProcessDied"
        running.open(2)
        with in_background(create_app(LearningHost(tmp_path, tmp_path, scene.runs))) as url:
            said = CliRunner().invoke(app, ["federate", "--server", url, "--resume", scene.folder.name])
        assert said.exit_code == 0, said.output
        assert "resumed after round 1 of 3" in said.stderr
        assert [event["round"] for event in scene.events if event["event"] == "round"] == [1, 2, 3]
        scene.by_hand = True
        scene.end()
        assert scene.row("killed", "", "", (SITES, SITES, SITES), by_hand=True).problems == []
