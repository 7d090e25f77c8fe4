"""Minutes until the demo reaches its AUROC, on a run whose files are made here: its weights need not be good."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks import time_to_auroc
from benchmarks.time_to_auroc import TimeToAurocBench, measure
from fedlmd.data import load, some
from fedlmd.federation.events import EVENTS
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.federation.server.checkpoints import save_checkpoint
from fedlmd.inference.evaluation import Report, examine
from fedlmd.models.networks import build
from fedlmd.progress import Progress, drain
from fedlmd.release import load_release, save_release
from fedlmd.release.store import half
from fedlmd.settings import from_mapping, read, to_mapping
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker

RUN = """
labels = ["0", "1", "2"]
[data.partition]
kind = "labels"
workers = 2
lists = [["0", "1"], ["1", "2"]]
[models]
classifier = [8, 8]
denoiser = [8, 8]
views = 1
[detector.lmd]
reconstructions = 2
inpainting = { steps = 2 }
[calibration]
images = 30
described = 60
[federation]
rounds = 3
"""

START = datetime(2026, 1, 2, 12, tzinfo=UTC)


def plan_for(settings, run):
    mapping = to_mapping(settings)
    del mapping["data"]
    return Plan(run, "releases", mapping)


@pytest.fixture
def done(tmp_path):
    """A finished run of three rounds, of which the second changed nothing: its settings' file, output and folder."""
    file = tmp_path / "run.toml"
    file.write_text(RUN)
    settings, output = read(file), tmp_path / "output"
    folder = output / "nodes" / "server" / "runs" / "run-1"
    write_plan(folder, plan_for(settings, "run-1"), build(settings.networks).weights())
    rounds = [{"event": "started"}]
    for number, seconds in ((1, 30), (2, 60), (3, 84)):
        save_checkpoint(folder, number, build(replace(settings, seed=number).networks).weights(), {})
        end = {"time": (START + timedelta(seconds=seconds)).isoformat(), "round": number, "aggregated": number != 2}
        rounds.append({"event": "round", **end, "seconds": 24.0, "workers": []})
    events = [*rounds, {"event": "finished", "release": "x"}]
    (folder / EVENTS).write_text("".join(f"{json.dumps(event)}\n" for event in events))
    return file, output, folder


def test_a_finished_run_is_evaluated_after_each_round_that_changed_the_weights(done, monkeypatch):
    file, output, _ = done
    steps = []
    result = drain(measure(TimeToAurocBench(file, images=40), output), steps.append)
    assert {" ".join(step.stage.split()[:2]) for step in steps} == {"round 1", "round 3"}
    assert "round 3 scoring" in [step.stage for step in steps]
    # The first round took 24 seconds; the third ended 54 seconds after it.
    assert [(row["round"], row["minutes"]) for row in result["rounds"]] == [(1, 0.4), (3, 1.3)]
    assert (result["run"], result["command"]) == ("run-1", "python -m benchmarks demo --images 40")
    assert result["figures"]["train_minutes_demo_in_all"] == 1.3
    # The figures are stored: nothing is evaluated again, and the result is the same.
    monkeypatch.setattr(time_to_auroc, "evaluated", lambda *_: pytest.fail("evaluated again"))
    assert drain(measure(TimeToAurocBench(file, images=40), output)) == result


def test_a_rounds_release_is_what_its_workers_would_calibrate_and_keeps_its_weights(done):
    file, _, folder = done
    settings = read(file)
    workers = [Worker(WorkerConfig(f"client{number + 1}", settings.data, number)) for number in range(2)]
    event = {"event": "round", "round": 3, "aggregated": True, "workers": []}
    steps = []
    release = drain(time_to_auroc.release_after(folder, event, workers), steps.append)
    assert {type(step) for step in steps} == {Progress}
    trained = half(build(replace(settings, seed=3).networks).weights())
    assert all((release.weights[name] == of).all() for name, of in trained.items())
    calibration = release.card["calibration"]
    assert calibration["workers"] == list(calibration["sites"]) == ["client1", "client2"]
    assert {sketch["count"] for sketch in calibration["sketches"].values()} == {60}
    # It can be saved and loaded, as a release that a run made.
    assert load_release(save_release(folder.parent, release.card, release.weights)).card["metrics"]["images"] > 0


def test_a_run_of_other_settings_or_without_an_end_is_not_used(done):
    file, output, folder = done
    settings = read(file)
    assert time_to_auroc.finished(output / "nodes", settings) == folder
    other = from_mapping({**to_mapping(settings), "seed": 1})
    assert time_to_auroc.finished(output / "nodes", other) is None
    lines = (folder / EVENTS).read_text().splitlines(keepends=True)
    (folder / EVENTS).write_text("".join(lines[:-1]))
    assert time_to_auroc.finished(output / "nodes", settings) is None
    assert time_to_auroc.finished(output / "nothing", settings) is None


def row(number, auroc, auroc_lmd):
    return {"round": number, "minutes": 0.5 * number, "auroc": auroc, "auroc_lmd": auroc_lmd}


def test_the_minutes_end_with_the_first_round_in_which_both_reach_their_targets():
    rows = [row(1, 0.99, 0.85), row(2, 0.97, 0.95), row(3, 0.98, 0.9), row(4, 0.985, 0.94)]
    assert time_to_auroc.figures_of(rows) == {
        "train_minutes_demo": 1.5,
        "train_rounds_demo": 3,
        "train_minutes_demo_in_all": 2.0,
        "auroc_best": 0.99,
        "auroc_lmd_best": 0.95,
    }


def test_where_no_round_reaches_both_there_are_no_minutes_but_the_best():
    figures = time_to_auroc.figures_of([row(1, 0.99, 0.85), row(2, 0.9799, 0.95)])
    assert (figures["train_minutes_demo"], figures["train_rounds_demo"]) == (None, None)
    assert (figures["auroc_best"], figures["auroc_lmd_best"]) == (0.99, 0.95)


def test_a_rounds_figures_are_those_of_an_evaluation(predictor):
    known, unknown = (some(load("mnist", "eval", labels=list(labels)), 60) for labels in ("01234", "56789"))
    report = drain(examine(predictor, known, unknown, most=30))
    assert isinstance(report, Report)
    row = time_to_auroc.row_of(report)
    assert row["auroc_lmd"] == pytest.approx(report.separations["lmd"].auroc, abs=1e-4)
    assert row["auroc"] == pytest.approx(report.separations["verdict"].auroc, abs=1e-4)
