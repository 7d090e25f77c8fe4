import json
from pathlib import Path

import pytest

from fedlmd.cli.demo_steps import Note, Predicted
from fedlmd.cli.show import bars, demo_step, drift_line, event_line, in_words, prediction_line, round_line, write
from fedlmd.inference import Prediction
from fedlmd.progress import Progress

ROUND = {"event": "round", "round": 2, "rounds": 6, "seconds": 30.0, "metrics": {}}
METRICS = {"accuracy": 0.5, "classifier-loss": 0.25, "num-examples": 70}


def test_a_round_is_a_line_and_one_for_each_worker_by_name():
    workers = [{"name": "b", "metrics": METRICS}, {"name": "a", "metrics": METRICS}]
    lines = round_line({**ROUND, "workers": workers}).splitlines()
    assert "2/6" in lines[0]
    assert "about 120 s" in lines[0]
    assert lines[1:] == [f"    {name}: accuracy before 0.5, classifier loss 0.25, images 70" for name in "ab"]


def test_a_round_has_what_a_worker_received_and_sent():
    worker = {"name": "a", "metrics": {**METRICS, "bytes-down": 2_824_771, "bytes-up": 720_507}}
    line = round_line({**ROUND, "workers": [worker]}).splitlines()[1]
    assert line.endswith("images 70, received 2.82 MB, sent 0.72 MB")


def test_an_event_is_printed_with_its_fields():
    event = {"time": "t", "event": "refused", "worker": "a", "reason": "it holds a NaN"}
    assert event_line(event) == '[bold]refused[/] {"worker": "a", "reason": "it holds a NaN"}'


def test_a_resumed_run_says_where_it_goes_on_and_what_was_skipped():
    event = {"time": "t", "event": "resumed", "round": 2, "rounds": 6, "skipped": ["round-003.safetensors is missing"]}
    assert event_line(event) == "[bold]resumed[/] after round 2 of 6\n    round-003.safetensors is missing"


def test_a_nodes_prediction_is_marked_right_or_wrong_or_open():
    prediction = {
        "is_ood": True,
        "verdict": "unknown",
        "prediction": 3,
        "score": 5.0,
        "threshold": 3.0,
        "p_value": 0.01,
    }
    assert "✓" in prediction_line(Predicted("server", "7", False, prediction))
    assert "✗" in prediction_line(Predicted("server", "3", True, prediction))
    unsure = prediction_line(Predicted("server", "3", True, {**prediction, "is_ood": False, "verdict": "uncertain"}))
    assert "?" in unsure
    assert "it says uncertain, perhaps a 3, " in unsure


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("known", "a 3 (score"), ("unknown", "unknown, closest to a 3 ("), ("uncertain", "uncertain, perhaps a 3 (")],
)
def test_each_verdict_has_its_sentence(verdict, words):
    prediction = Prediction(
        prediction=3,
        is_ood=verdict == "unknown",
        probabilities={"3": 1.0},
        score=5.0,
        threshold=3.0,
        p_value=0.01,
        alpha=0.05,
        detector="verdict",
        scores={},
        release="abc",
        verdict=verdict,
    )
    assert in_words(prediction).startswith(words)


def test_json_goes_to_a_file_or_to_standard_output(tmp_path, capsys):
    write({"a": 1}, tmp_path / "deep" / "x.json")
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": 1}
    write({"a": 2}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"a": 2}


def test_a_drift_watch_is_printed_with_its_share_of_low_p_values():
    below = [{"level": 0.01, "images": 3, "limit": 0.0292}]
    steady = {"alarm": None, "images": 150, "started": "2026-05-01T12:00:00Z", "below": below}
    assert drift_line(steady) == (
        "[green]steady[/]; 150 images since 2026-05-01T12:00:00Z, 2.0% of them with p of at most 0.01, "
        "where 2.9% can be chance"
    )
    alarm = {"since": 90, "image": 120, "time": "2026-05-02T12:00:00Z"}
    line = drift_line({**steady, "alarm": alarm})
    assert line.startswith("[red]drifting[/] since about image 90, noticed at image 120, 2026-05-02T12:00:00Z; 150")


def test_the_steps_of_the_demo_are_bars_and_lines(capsys):
    tasks = {}
    with bars() as shown:
        demo_step(shown, tasks, Progress("classifier", 1, 2, {"loss": 0.5}))
        assert list(tasks) == ["classifier"]
        demo_step(shown, tasks, Note("calibrating"))
        assert tasks == {}
        last = {**ROUND, "round": 6, "seconds": 2.0, "workers": [{"name": "a", "metrics": METRICS}]}
        demo_step(shown, tasks, last)
    lines = capsys.readouterr().err
    assert "· calibrating" in lines
    assert "round 6/6  2 s, the last" in lines
    assert "a: accuracy before 0.5" in lines
