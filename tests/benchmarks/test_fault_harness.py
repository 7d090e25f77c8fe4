"""That a run which did not survive is detected: its event log and files are made here, each with one fault."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.fault_harness import BEHAVIOURS, WORKERS, FaultRun
from benchmarks.numpy_trainer import WorkerBehaviour
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import save_weights
from fedlmd.federation.server.checkpoints import save_checkpoint
from fedlmd.release import half, save_release

# Steps 0, 1 and 2 on 1, 2 and 3 examples: 8 / 6 on average.
AFTER_1 = {"classifier.w": np.full((2, 3), 1 + 8 / 6, np.float32), "denoiser.w": np.full(5, 1.5 + 8 / 6, np.float32)}


class Survived:
    """A run of one round that ended well, as a ``FaultRun`` sees it."""

    def __init__(self, home):
        self.folder, self.releases = home / "run", home / "server" / "releases"
        self.folder.mkdir()
        save_checkpoint(self.folder, 1, AFTER_1, {})
        weights = half(AFTER_1)
        self.release = save_release(self.releases, {}, weights)
        for name in WORKERS:
            (home / name / "trainer").mkdir(parents=True)
            save_weights(home / name / "trainer" / f"{self.release.name}.safetensors", weights)
        self.log = EventLog(self.folder)
        self.log.append("submitted")
        self.log.append("round", round=1, aggregated=True, seconds=2.0, workers=[{"name": name} for name in WORKERS])
        self.log.append("finished", release=self.release.name, installed=list(WORKERS))
        cluster = SimpleNamespace(
            home=home,
            workers=dict.fromkeys(WORKERS),
            engine=SimpleNamespace(home=home / "server"),
            runs=lambda: None,
            calls=lambda run: self.calls,
        )
        self.calls = {name: [1] for name in WORKERS}
        self.fault_run = FaultRun(cluster, 1.0)
        self.fault_run.folder = self.folder

    def row(self, rounds=(WORKERS,), by_hand=False):
        return self.fault_run.row("a", "b", "c", rounds, by_hand=by_hand)


@pytest.fixture
def run(tmp_path):
    return Survived(tmp_path)


def test_a_good_run_has_no_problems(run):
    row = run.row()
    assert (row.problems, row.survived, row.rounds_lost, row.round_seconds) == ([], True, 0, 2.0)


def test_the_workers_behaviours_show_in_the_weights_whose_updates_were_averaged():
    assert {f"worker-{number}": WorkerBehaviour(step=number, examples=number + 1) for number in range(3)} == BEHAVIOURS


@pytest.mark.parametrize(("error", "in_release"), [(1e-5, False), (1e-2, True)])
def test_wrong_weights_are_found(run, error, in_release):
    wrong = {**AFTER_1, "classifier.w": AFTER_1["classifier.w"] * np.float32(1 + error)}
    save_checkpoint(run.folder, 1, wrong, {})
    checkpoint, *release = run.row().problems
    assert checkpoint.startswith("classifier.w in round-001.safetensors is 2.3")
    # Half precision does not show the smaller error.
    assert release == ["classifier.w of the release is not that of the last round"] * in_release


def test_other_workers_in_the_average_are_found(run):
    averaged, *weights = run.row(rounds=[WORKERS[:2]]).problems
    assert averaged == "round 1 averaged worker-0, worker-1, worker-2 instead of worker-0, worker-1"
    assert len(weights) == 2


def test_a_run_that_did_not_finish_a_missing_file_and_a_half_written_one_are_found(run):
    (run.folder / ".round-001.safetensors.part").touch()
    (run.releases / ".part-abc").mkdir()
    assert run.row().problems == [
        ".round-001.safetensors.part was left half-written in run",
        ".part-abc was left half-written in releases",
    ]
    run.log.append("resumed", round=1)
    run.log.append("failed", reason="no worker came")
    assert run.row().problems == ["the event log ends with failed: no worker came"]


def test_a_release_too_many_and_a_worker_without_it_are_found(run):
    other = save_release(run.releases, {"other": True}, half(AFTER_1))
    assert any(other.name in problem for problem in run.row().problems)
    run.fault_run.cluster.workers["worker-3"] = None
    assert "only worker-0, worker-1, worker-2 stored the release" in run.row().problems


def test_rounds_that_were_trained_twice_or_left_the_weights_as_they_were_are_lost(run):
    run.calls = {"worker-0": [1, 1], "worker-1": [1]}
    assert run.row().rounds_lost == 1
    run.calls = {}
    assert run.row().rounds_lost == 0


def test_a_resumption_that_was_not_expected_is_a_problem(run):
    assert run.row(by_hand=True).problems == ["it was not resumed by hand"]
    run.fault_run.by_hand = True
    assert run.row(by_hand=False).problems == ["it was resumed by hand"]


def test_seconds_to_go_on_are_those_from_the_fault_to_the_next_round_that_counted(run):
    [counted] = [event for event in run.log.read() if event["event"] == "round"]
    run.fault_run.mark_fault(counted["time"])
    run.fault_run.fault_time -= 12.5
    assert run.row().seconds == 12.5


def test_what_does_not_come_in_time_is_named_with_the_end_of_the_event_log(run):
    with pytest.raises(TimeoutError, match=r"the event \{'event': 'kept'\}: it did not come .* 'finished'"):
        run.fault_run.wait_for_event("kept")
