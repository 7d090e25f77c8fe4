"""That a run which did not survive is found out: its diary and files are made here, each with one thing wrong."""

from types import SimpleNamespace

import numpy as np
import pytest

from fedlmd import artifacts
from fedlmd.bench.numpy_trainer import Manner
from fedlmd.bench.scene import MANNERS, Scene
from fedlmd.bench.scripts import SITES
from fedlmd.federation.checkpoints import save_checkpoint
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import save_weights

# Steps 0, 1 and 2 on 1, 2 and 3 examples: 8 / 6 on average.
AFTER_1 = {"classifier.w": np.full((2, 3), 1 + 8 / 6, np.float32), "denoiser.w": np.full(5, 1.5 + 8 / 6, np.float32)}


class Survived:
    """A run of one round that came to a good end, and what a scene sees of it."""

    def __init__(self, home):
        self.folder, self.releases = home / "run", home / "server" / "releases"
        self.folder.mkdir()
        save_checkpoint(self.folder, 1, AFTER_1, {})
        weights = artifacts.half(AFTER_1)
        self.release = artifacts.save(self.releases, {}, weights)
        for name in SITES:
            (home / name / "line").mkdir(parents=True)
            save_weights(home / name / "line" / f"{self.release.name}.safetensors", weights)
        self.log = EventLog(self.folder)
        self.log.append("submitted")
        self.log.append("round", round=1, aggregated=True, seconds=2.0, workers=[{"name": name} for name in SITES])
        self.log.append("finished", release=self.release.name, installed=list(SITES))
        stage = SimpleNamespace(
            home=home,
            workers=dict.fromkeys(SITES),
            engine=SimpleNamespace(home=home / "server"),
            runs=lambda: None,
            calls=lambda run: self.calls,
        )
        self.calls = {name: [1] for name in SITES}
        self.scene = Scene(stage, 1.0)
        self.scene.folder = self.folder

    def row(self, rounds=(SITES,), by_hand=False):
        return self.scene.row("a", "b", "c", rounds, by_hand=by_hand)


@pytest.fixture
def run(tmp_path):
    return Survived(tmp_path)


def test_a_good_run_has_no_problems(run):
    row = run.row()
    assert (row.problems, row.survived, row.rounds_lost, row.round_seconds) == ([], True, 0, 2.0)


def test_the_workers_manners_tell_in_the_weights_whose_updates_were_averaged():
    assert {f"site-{number}": Manner(step=number, examples=number + 1) for number in range(3)} == MANNERS


@pytest.mark.parametrize(("error", "in_release"), [(1e-5, False), (1e-2, True)])
def test_wrong_weights_are_found(run, error, in_release):
    wrong = {**AFTER_1, "classifier.w": AFTER_1["classifier.w"] * np.float32(1 + error)}
    save_checkpoint(run.folder, 1, wrong, {})
    checkpoint, *release = run.row().problems
    assert checkpoint.startswith("classifier.w in round-001.safetensors is 2.3")
    # Halves do not tell the smaller error.
    assert release == ["classifier.w of the release is not that of the last round"] * in_release


def test_other_workers_in_the_average_are_found(run):
    averaged, *weights = run.row(rounds=[SITES[:2]]).problems
    assert averaged == "round 1 averaged site-0, site-1, site-2 instead of site-0, site-1"
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
    assert run.row().problems == ["the diary ends with failed: no worker came"]


def test_a_release_too_many_and_a_worker_without_it_are_found(run):
    other = artifacts.save(run.releases, {"other": True}, artifacts.half(AFTER_1))
    assert any(other.name in problem for problem in run.row().problems)
    run.scene.stage.workers["site-3"] = None
    assert "only site-0, site-1, site-2 stored the release" in run.row().problems


def test_rounds_that_were_trained_twice_or_left_the_weights_as_they_were_are_lost(run):
    run.calls = {"site-0": [1, 1], "site-1": [1]}
    assert run.row().rounds_lost == 1
    run.calls = {}
    assert run.row().rounds_lost == 0


def test_a_resumption_that_was_not_expected_is_a_problem(run):
    assert run.row(by_hand=True).problems == ["it was not resumed by hand"]
    run.scene.by_hand = True
    assert run.row(by_hand=False).problems == ["it was resumed by hand"]


def test_seconds_to_go_on_are_those_from_the_fault_to_the_next_round_that_counted(run):
    [counted] = [event for event in run.log.read() if event["event"] == "round"]
    run.scene.happened_at(counted["time"])
    run.scene.happened -= 12.5
    assert run.row().seconds == 12.5


def test_what_does_not_come_in_time_is_named_with_the_end_of_the_diary(run):
    with pytest.raises(TimeoutError, match=r"the event \{'event': 'kept'\}: it did not come .* 'finished'"):
        run.scene.seen("kept")
