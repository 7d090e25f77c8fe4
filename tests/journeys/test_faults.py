"""What breaks in a federated run is broken here: real Flower processes are killed, a real disk is filled."""

import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.federation.events import EventLog
from fedlmd.node import NodeConfig
from fedlmd.node.runs import ServerRuns
from fedlmd.service import create_app, in_background
from tests.federation.stage import stage, wait_for
from tests.service.learning_host import LearningHost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture
def cluster():
    with stage({"site-0": "good", "site-1": "good"}) as running:
        yield running


def runs_of(cluster):
    return ServerRuns(cluster.engine, NodeConfig("server", "server", cluster.engine.home))


def seen(folder, kind, **fields):
    """The first event of a kind with these fields, waited for."""
    wanted = {"event": kind, **fields}
    return wait_for(
        lambda: next((event for event in EventLog(folder).read() if wanted.items() <= event.items()), None), 400
    )


def weights(folder, number):
    return load_file(folder / f"round-{number:03d}.safetensors")["classifier.w"]


def uninterrupted(rounds):
    """What the trainers make of zeros."""
    value = 0
    for number in range(1, rounds + 1):
        value = value * number + 1
    return np.full((2, 3), value, np.float32)


def test_a_killed_run_that_is_resumed_makes_what_an_uninterrupted_one_makes(cluster, tmp_path):
    whole = cluster.submit("whole", rounds=3, card={"calibration": {"alpha": 0.05}})
    finished = seen(whole, "finished")
    cluster.close(2)
    folder = cluster.submit("killed", rounds=3, card={"calibration": {"alpha": 0.05}})
    runs = runs_of(cluster)
    runs.watch(folder)
    assert seen(folder, "round", round=1)
    wait_for(cluster.at_work, 200)
    os.kill(seen(folder, "started")["pid"], signal.SIGKILL)
    assert seen(folder, "failed")["kind"] == "ProcessDied"
    cluster.open(2)
    with in_background(create_app(LearningHost(tmp_path, tmp_path, runs))) as url:
        said = CliRunner().invoke(app, ["federate", "--server", url, "--resume", folder.name])
    assert said.exit_code == 0, said.output
    assert "resumed after round 1 of 3" in said.stderr
    rounds = [event["round"] for event in EventLog(folder).read() if event["event"] == "round"]
    assert rounds == [1, 2, 3]
    np.testing.assert_array_equal(weights(folder, 3), uninterrupted(3))
    np.testing.assert_array_equal(weights(whole, 3), uninterrupted(3))
    releases = [cluster.engine.home / "releases" / of["release"] for of in (finished, seen(folder, "finished"))]
    first, second = (load_file(release / "weights.safetensors") for release in releases)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_run_outlives_the_death_of_flowers_server(cluster):
    cluster.close(2)
    folder = cluster.submit("link", rounds=2)
    runs = runs_of(cluster)
    runs.watch(folder)
    assert seen(folder, "round", round=1)
    wait_for(cluster.at_work, 200)
    os.kill(cluster.engine.pids["superlink"], signal.SIGKILL)
    cluster.open(2)
    ended = wait_for(lambda: EventLog(folder).final() or (len(list(folder.glob("round-*"))) == 2), 400)
    if ended is not True:
        runs.resume(folder.name)
    assert seen(folder, "round", round=2)
    np.testing.assert_array_equal(weights(folder, 2), uninterrupted(2))
    assert seen(folder, "finished")


def test_a_round_goes_on_without_the_worker_that_was_killed_in_it(cluster):
    cluster.close(1)
    folder = cluster.submit("worker", rounds=1)
    wait_for(cluster.at_work, 200)
    cluster.trainers["site-1"].kill()
    os.killpg(cluster.workers["site-1"].pid, signal.SIGKILL)
    cluster.open(1)
    one = seen(folder, "round", round=1)
    assert [worker["name"] for worker in one["workers"]] == ["site-0"]
    assert one["aggregated"]
    np.testing.assert_array_equal(weights(folder, 1), uninterrupted(1))
    cluster.engine.stop_run(folder)


def test_a_worker_that_joins_late_takes_part_from_the_next_round(cluster):
    cluster.close(1)
    folder = cluster.submit("late", rounds=2)
    wait_for(cluster.at_work, 200)
    cluster.add("site-2", "good")
    joined = cluster.home / "site-2" / "logs" / "supernode.log"
    wait_for(lambda: "SuperNode ID" in joined.read_text(), 200)
    cluster.open(1)
    assert len(seen(folder, "round", round=1)["workers"]) == 2
    assert len(seen(folder, "round", round=2)["workers"]) == 3
    cluster.engine.stop_run(folder)


def test_a_full_disk_ends_a_run_with_a_word_and_with_room_it_goes_on(cluster):
    folder = cluster.plan("disk", rounds=2)
    # 64 KB, of which something else has taken most.
    aside = shutil.copytree(folder, cluster.home / "aside")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs the rights of root")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        runs = runs_of(cluster)
        cluster.close(2)
        cluster.engine.submit(folder)
        assert seen(folder, "round", round=1)
        filling = folder / "filling"
        # Ends with its own complaint that nothing is left.
        subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4096"], stderr=subprocess.DEVNULL)
        cluster.open(2)
        failed = seen(folder, "failed")
        assert "round-002.safetensors could not be written" in failed["reason"]
        assert "No space left on device" in failed["reason"]
        assert not list(folder.glob("*002*")) + list(folder.glob(".*"))
        np.testing.assert_array_equal(weights(folder, 1), uninterrupted(1))
        filling.unlink()
        wait_for(lambda: not EventLog(folder).is_held())
        runs.resume(folder.name)
        assert seen(folder, "round", round=2)
        np.testing.assert_array_equal(weights(folder, 2), uninterrupted(2))
        cluster.engine.stop_run(folder)
        wait_for(lambda: not EventLog(folder).is_held())
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
