import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedlmd.models import UNet
from fedlmd.release import load_release
from fedlmd.settings import SettingsError, from_mapping
from fedlmd.simulation.launch import SimulationError, divided, plan_for, simulate
from fedlmd.simulation.program import has_ray

TINY = {
    "labels": ["0", "1", "2", "3", "4"],
    "data": {"partition": {"kind": "iid"}},
    "models": {"classifier": [8, 16], "denoiser": [8, 16], "views": 1},
    "classifier": {"steps": 4, "batch_size": 32, "warmup": 1},
    "denoiser": {"steps": 2, "batch_size": 32, "warmup": 1},
    "calibration": {"images": 20},
    "federation": {"rounds": 2, "strategy": "fedadam", "server_ema": 0.5},
}


def test_the_source_is_divided_among_the_workers_that_were_asked_for():
    assert divided(from_mapping(TINY), 70).data.partition.workers == 70


def test_lists_for_other_workers_are_refused_with_what_can_be_simulated():
    lists = {"data": {"partition": {"kind": "labels", "workers": 2, "lists": [["0"], ["1"]]}}}
    with pytest.raises(SettingsError, match='lists for 2 workers, not 70; choose kind "iid" or "dirichlet"'):
        divided(from_mapping({**TINY, **lists}), 70)


def test_a_round_begins_with_all_workers_and_lasts_longer_where_they_take_turns(tmp_path):
    settings = from_mapping({**TINY, "federation": {"min_workers": 9, "min_replies": 9, "round_timeout": 100}})
    plan = plan_for("r", settings, 7, tmp_path, 2)
    federation = plan.federation
    assert (federation.min_workers, federation.min_replies, federation.round_timeout) == (7, 7, 400)


@pytest.mark.skipif(has_ray(), reason="Ray is installed")
def test_without_ray_the_extra_is_named(tmp_path):
    with pytest.raises(SimulationError, match=r"pip install 'fedlmd\[simulation\]'"):
        next(simulate(from_mapping(TINY), 3, tmp_path, actors=1))
    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from pathlib import Path
from fedlmd.settings import from_mapping
from fedlmd.simulation.launch import simulate
from tests.simulation.test_launch import TINY
for event in simulate(from_mapping(TINY), 4, Path(sys.argv[1]), actors=1):
    print(event["event"], event.get("pid", 0), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not has_ray(), reason="Ray is not installed")
def test_a_simulation_whose_parent_is_killed_ends_too(tmp_path):
    command = [sys.executable, "-c", KILLED, tmp_path]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True) as parent:
        pid = 0
        for line in parent.stdout:
            event, started = line.split()
            pid = int(started) or pid
            if event == "round":  # Ray is there, and so is its own handling of signals
                break
        parent.kill()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.skipif(not has_ray(), reason="Ray is not installed")
@pytest.mark.timeout(600)
def test_a_simulated_federation_ends_with_a_release(tmp_path):
    events = list(simulate(from_mapping(TINY), 6, tmp_path, actors=2))
    rounds = [event for event in events if event["event"] == "round"]
    assert [(event["asked"], len(event["workers"]), event["aggregated"]) for event in rounds] == [(6, 6, True)] * 2
    assert {worker["name"] for worker in rounds[0]["workers"]} == {f"worker-{number}" for number in range(6)}
    assert [event["step"] for event in events if event["event"] == "calibrating"] == ["sums", "moments", "thresholds"]
    release = load_release(tmp_path / "releases" / events[-1]["release"])
    assert sorted(release.card["calibration"]["sites"]) == [f"worker-{number}" for number in range(6)]
    assert release.card["training"]["strategy"] == "fedadam"


@pytest.mark.slow
@pytest.mark.skipif(not has_ray(), reason="Ray is not installed")
@pytest.mark.timeout(600)
def test_simulated_workers_keep_their_local_layers_and_residuals(tmp_path):
    federation = {"rounds": 2, "merge": "partial", "compression": "8-bit"}
    *_, last = simulate(from_mapping({**TINY, "federation": federation}), 3, tmp_path, actors=2)
    assert last["event"] == "finished"
    weights = load_release(tmp_path / "releases" / last["release"]).weights
    first = {name: array for name, array in weights.items() if name.startswith("denoiser.members.0.")}
    apart = {n for n, array in first.items() if not np.array_equal(array, weights[n.replace("members.0", "members.1")])}
    # A single step of Adam is the same where only the gradient's sign counts; so not all local layers differ.
    assert apart
    local = tuple(f"denoiser.members.0.{layer}" for layer in UNet.local_layers)
    assert all(name.startswith(local) for name in apart)
    assert not list(tmp_path.glob("runs/*/workers"))
