import json
import resource

import numpy as np
import pytest

from fedlmd.detection import PRESETS
from fedlmd.federation.events import FINAL, EventLog
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.federation.server.checkpoints import save_checkpoint
from fedlmd.models import build
from fedlmd.node.config import NodeConfig
from fedlmd.node.runs import ServerRuns, summarise
from fedlmd.release import PRETRAINED_FOLDER, load_release
from fedlmd.service.contract import Busy, Refused, Unavailable, UnknownRun
from fedlmd.service.schema import RunOrder
from fedlmd.settings import Settings, SettingsError, from_mapping, plan_of, to_mapping

FIVE = ("0", "1", "2", "3", "4")


@pytest.fixture
def runs(tmp_path):
    # No engine: what is tested here never calls Flower.
    return ServerRuns(None, NodeConfig("server", "server", tmp_path, Settings(labels=FIVE)))


def test_a_runs_settings_override_the_servers(runs):
    chosen = runs.settings_of(RunOrder(settings={"federation": {"rounds": 9}}, labels=["7", "8"]))
    assert chosen.labels == ("7", "8")
    assert chosen.federation.rounds == 9
    assert chosen.denoiser == runs.config.settings.denoiser


def test_a_run_can_name_a_preset_of_the_detector(runs):
    chosen = runs.settings_of(RunOrder(settings={"detector": {"lmd": {"preset": "paper"}}}))
    assert chosen.detector.lmd == PRESETS["paper"]
    assert chosen.detector.lmd != runs.config.settings.detector.lmd


def test_an_unknown_setting_is_refused(runs):
    with pytest.raises(SettingsError, match="roundz"):
        runs.settings_of(RunOrder(settings={"federation": {"roundz": 9}}))


def test_the_shipped_detector_is_taken_as_it_is_and_not_trained(runs):
    chosen = runs.settings_of(RunOrder(pretrained_detector=True))
    weights = runs.first_weights(chosen, pretrained_detector=True)
    shipped = load_release(PRETRAINED_FOLDER).weights
    assert chosen.denoiser.steps == 0
    fresh = build(chosen.networks).weights()
    for name, array in weights.items():
        expected = shipped[name].astype(np.float32) if name.startswith("denoiser.") else fresh[name]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)


def test_the_shipped_detector_is_refused_for_other_labels_or_shapes(runs):
    with pytest.raises(Refused, match="knows the labels 0, 1, 2, 3, 4 or 0, 1, 2, 3, 4, 5, 6, 7, 8, 9;"):
        runs.first_weights(from_mapping({"labels": ["0", "1"]}), pretrained_detector=True)
    other = from_mapping({"labels": FIVE, "models": {"denoiser": [32, 64]}})
    with pytest.raises(Refused, match="another shape"):
        runs.first_weights(other, pretrained_detector=True)


def test_a_plan_has_all_settings_but_where_the_images_are(runs, tmp_path):
    plan = plan_of("r", runs.config.settings, tmp_path)
    assert "data" not in plan.settings
    assert from_mapping(json.loads(json.dumps(plan.settings))).labels == FIVE
    assert set(plan.settings) == set(to_mapping(runs.config.settings)) - {"data"}


def test_a_plan_has_the_federation_of_the_settings(tmp_path):
    federation = {
        "strategy": "krum",
        "mu": 0.5,
        "weighting": "uniform",
        "server_rate": 0.25,
        "trim": 0.125,
        "byzantine": 2,
        "server_ema": 0.75,
    }
    settings = from_mapping({"federation": {**federation, "min_workers": 7, "min_replies": 7}})
    plan = Plan.from_json(json.loads(json.dumps(plan_of("r", settings, tmp_path).to_json())))
    assert plan.federation == settings.federation
    assert {name: getattr(plan.federation, name) for name in federation} == federation


def test_a_run_is_summed_up_from_its_event_log(tmp_path):
    assert summarise(tmp_path) is None
    log = EventLog(tmp_path)
    log.append("submitted", run="r", rounds=3)
    log.append("round", round=1, rounds=3)
    assert (summarise(tmp_path).state, summarise(tmp_path).round, summarise(tmp_path).rounds) == ("running", 1, 3)
    assert (summarise(tmp_path).workers, summarise(tmp_path).expected) == (None, None)
    log.append("failed", reason="no worker came")
    assert (summarise(tmp_path).state, summarise(tmp_path).reason) == ("failed", "no worker came")


def test_a_finished_run_says_how_many_workers_took_part(tmp_path):
    EventLog(tmp_path).append("finished", release="abc", workers=1, expected=2)
    assert (summarise(tmp_path).workers, summarise(tmp_path).expected) == (1, 2)


def begun(runs, name, *events):
    """A run with two good rounds whose event log ends with these events."""
    folder = runs.config.runs / name
    settings, _ = from_mapping({"federation": {"rounds": 3}}).resolved([])
    write_plan(folder, plan_of(name, settings, runs.config.releases), {"w": np.zeros(2, np.float32)})
    log = EventLog(folder)
    log.append("submitted", run=name, rounds=3)
    for number in (1, 2):
        save_checkpoint(folder, number, {"w": np.full(2, number, np.float32)}, {})
        log.append("round", round=number, rounds=3, aggregated=True)
    for event in events:
        log.append(event, release="abc")
    return folder


@pytest.mark.parametrize(
    ("events", "error", "words"),
    [
        (["finished"], Refused, "the run 'a' is finished, its release is abc; start a new run"),
        ([], Busy, "the run 'a' is still going on"),
        (["failed", "resumed"], Busy, "the run 'a' is still going on"),
    ],
)
def test_only_a_run_that_failed_or_was_stopped_is_resumed(runs, events, error, words):
    begun(runs, "a", *[event for event in events if event != "resumed"])
    if "resumed" in events:
        EventLog(runs.config.runs / "a").append("resumed", round=2, rounds=3, skipped=[])
    with pytest.raises(error, match=words):
        runs.resume("a")


def test_a_run_is_not_resumed_while_another_is_going_on_or_its_own_process_lives(runs):
    folder = begun(runs, "a", "stopped")
    with EventLog(folder).held(), pytest.raises(Busy, match="just ending"):
        runs.resume("a")
    begun(runs, "b")
    with pytest.raises(Busy, match="another run is going on"):
        runs.resume("a")


def test_a_run_that_is_unknown_or_whose_plan_is_gone_is_not_resumed(runs):
    with pytest.raises(UnknownRun, match="no run 'a'"):
        runs.resume("a")
    (begun(runs, "a", "failed") / "plan.json").unlink()
    with pytest.raises(Refused, match=r"the run 'a' cannot be resumed: .* is not the folder of a run"):
        runs.resume("a")


def test_a_run_whose_event_log_cannot_be_written_is_not_resumed(runs):
    folder = begun(runs, "a", "failed")
    whole = (folder / "events.jsonl").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 10, limits[1]))
    try:
        with pytest.raises(Unavailable, match=r"events\.jsonl cannot be written \(No space left on device\)"):
            runs.resume("a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (folder / "events.jsonl").read_bytes() == whole
    assert summarise(folder).state == "failed"


class RecordingEngine:
    """Flower's server as far as a resumed run needs it."""

    def __init__(self):
        self.submitted = []

    def submit(self, folder):
        assert not (folder / "flower.json").exists(), "a reader of the run would query Flower about its last attempt"
        self.submitted.append(folder.name)

    def follow(self, folder):
        yield {"event": "stopped"}


@pytest.mark.parametrize(("damaged", "goes_on"), [((), 2), ((2,), 1), ((1, 2), 0)])
def test_a_run_is_resumed_after_its_last_round_that_is_whole(runs, damaged, goes_on):
    folder = begun(runs, "a", "failed")
    for number in damaged:
        (folder / f"round-00{number}.safetensors").write_bytes(b"half of it")
    (folder / "flower.json").write_text('{"run-id": "1"}')
    runs.engine = RecordingEngine()
    runs.resume("a")
    assert runs.engine.submitted == ["a"]
    resumed = EventLog(folder).read()[-1]
    assert (resumed["event"], resumed["round"], resumed["rounds"]) == ("resumed", goes_on, 3)
    assert len(resumed["skipped"]) == len(damaged)
    summary = summarise(folder)
    assert (summary.state, summary.round, summary.rounds, summary.reason) == ("running", goes_on, 3, None)


def test_a_run_that_flower_never_got_because_the_server_was_ended_can_be_resumed(runs):
    folder = begun(runs, "a")
    runs.resume_watching()
    assert summarise(folder).state == "failed"
    assert "before Flower had taken the run" in summarise(folder).reason
    runs.engine = RecordingEngine()
    runs.resume("a")
    assert runs.engine.submitted == ["a"]


class StoppingEngine:
    """Flower's server as far as a run needs it that is stopped while Flower takes it."""

    def __init__(self, between):
        self.between, self.calls, self.away = between, [], False

    def submit(self, folder):
        self.between(folder)
        (folder / "flower.json").write_text('{"run-id": "1"}')

    def stop_run(self, folder):
        if not EventLog(folder).final():
            EventLog(folder).append("stopped", reason="the run was stopped")
        self.calls.append("stop")
        if self.away:
            raise EngineError("flwr stop returned no result")

    def follow(self, folder):
        self.calls.append("follow")
        yield {"event": "stopped"}


def final_events(folder):
    return [event["event"] for event in EventLog(folder).read() if event["event"] in FINAL]


def test_a_run_that_is_stopped_while_flower_takes_it_is_stopped_there_too(runs):
    folder = begun(runs, "a", "failed")
    runs.engine = StoppingEngine(lambda folder: runs.stop(folder.name))
    runs.resume("a")
    assert runs.engine.calls == ["stop"]
    assert final_events(folder) == ["failed", "stopped"]


def test_a_run_that_flower_did_not_stop_can_be_stopped_once_more(runs):
    folder = begun(runs, "a")
    (folder / "flower.json").write_text('{"run-id": "1"}')
    runs.engine = StoppingEngine(None)
    runs.engine.away = True
    with EventLog(folder).held():
        with pytest.raises(Unavailable, match=r"Flower did not stop the run: .*; stop it once more"):
            runs.stop("a")
        runs.engine.away = False
        runs.stop("a")
    runs.stop("a")
    assert runs.engine.calls == ["stop", "stop"]
    assert final_events(folder) == ["stopped"]


def test_a_run_that_flower_takes_while_it_is_stopped_is_stopped_there_too(runs, monkeypatch):
    folder = begun(runs, "a")
    runs.engine = StoppingEngine(None)
    append = EventLog.append

    def taken_first(log, event, **fields):
        (folder / "flower.json").write_text('{"run-id": "1"}')
        append(log, event, **fields)

    monkeypatch.setattr(EventLog, "append", taken_first)
    runs.stop("a")
    assert runs.engine.calls == ["stop"]
    assert final_events(folder) == ["stopped"]


def test_a_run_that_was_stopped_before_flower_refused_it_stays_stopped(runs):
    folder = begun(runs, "a", "failed")

    def refused(folder):
        runs.stop(folder.name)
        raise EngineError("flwr run failed")

    runs.engine = StoppingEngine(refused)
    with pytest.raises(Unavailable, match="flwr run failed"):
        runs.resume("a")
    assert final_events(folder) == ["failed", "stopped"]


def test_a_run_is_not_resumed_while_flower_still_takes_it_though_it_was_stopped(runs):
    folder = begun(runs, "a", "failed")

    def stopped_and_resumed(folder):
        runs.stop(folder.name)
        with pytest.raises(Busy, match="just ending"):
            runs.resume(folder.name)

    runs.engine = StoppingEngine(stopped_and_resumed)
    runs.resume("a")
    assert runs.engine.calls == ["stop"]
    assert final_events(folder) == ["failed", "stopped"]
    runs.engine = RecordingEngine()
    runs.resume("a")
    assert runs.engine.submitted == ["a"]


@pytest.mark.parametrize(
    "log",
    [
        b"rubbish\n",
        b'{"event": "started"}\n',
        b'{"time": "yesterday", "event": "started", "rounds": 2}\n',
        b'{"time": null, "event": "round", "round": "x"}\n',
        b'{"time": "2026-01-01T00:00:00+00:00", "event": "finished", "release": {"a": 1}}\n',
    ],
)
def test_a_log_that_is_wrong_is_that_of_a_failed_run_and_keeps_no_server_from_starting(runs, log):
    folder = runs.config.runs / "20260101-000000-abcd"
    folder.mkdir(parents=True)
    EventLog(folder).path.write_bytes(log)
    runs.resume_watching()
    [summary] = runs.list()
    assert summary.state == "failed"
    assert "its event log is damaged" in summary.reason


def test_a_damaged_line_does_not_hide_the_rest_of_a_run(runs):
    folder = runs.config.runs / "20260101-000000-abcd"
    folder.mkdir(parents=True)
    EventLog(folder).path.write_bytes(b"rubbish\n")
    EventLog(folder).append("started", rounds=3)
    EventLog(folder).append("failed", reason="no worker came")
    [summary] = runs.list()
    assert (summary.state, summary.rounds, summary.reason) == ("failed", 3, "no worker came")
