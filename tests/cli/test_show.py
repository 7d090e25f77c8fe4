import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedlmd.answer import Answer
from fedlmd.cli import app
from fedlmd.cli.show import asked_line, drift_line, event_line, fail, in_words, round_line, write
from fedlmd.demo import Asked, RoundDone

METRICS = {"accuracy": 0.5, "classifier-loss": 0.25, "num-examples": 70}


def test_a_round_is_a_line_and_one_for_each_worker_by_name():
    workers = [{"name": "b", "metrics": METRICS}, {"name": "a", "metrics": METRICS}]
    lines = round_line(RoundDone(2, 6, 30.0, workers, {})).splitlines()
    assert "2/6" in lines[0]
    assert "about 120 s" in lines[0]
    assert lines[1:] == [f"    {name}: accuracy before 0.5, classifier loss 0.25, images 70" for name in "ab"]


def test_a_round_says_what_a_worker_got_and_sent():
    worker = {"name": "a", "metrics": {**METRICS, "bytes-down": 2_824_771, "bytes-up": 720_507}}
    line = round_line(RoundDone(2, 6, 30.0, [worker], {})).splitlines()[1]
    assert line.endswith("images 70, received 2.82 MB, sent 0.72 MB")


def test_an_event_is_told_in_words():
    event = {"time": "t", "event": "refused", "worker": "a", "reason": "it holds a NaN"}
    assert event_line(event) == '[bold]refused[/] {"worker": "a", "reason": "it holds a NaN"}'


def test_a_resumed_run_says_where_it_goes_on_and_what_was_skipped():
    event = {"time": "t", "event": "resumed", "round": 2, "rounds": 6, "skipped": ["round-003.safetensors is missing"]}
    assert event_line(event) == "[bold]resumed[/] after round 2 of 6\n    round-003.safetensors is missing"


def test_an_answer_is_marked_right_or_wrong_or_open():
    answer = {"is_ood": True, "verdict": "unknown", "prediction": 3, "score": 5.0, "threshold": 3.0, "p_value": 0.01}
    assert "✓" in asked_line(Asked("server", "7", False, answer))
    assert "✗" in asked_line(Asked("server", "3", True, answer))
    unsure = asked_line(Asked("server", "3", True, {**answer, "is_ood": False, "verdict": "uncertain"}))
    assert "?" in unsure
    assert "it says uncertain, perhaps a 3, " in unsure


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("known", "a 3 (score"), ("unknown", "unknown, closest to a 3 ("), ("uncertain", "uncertain, perhaps a 3 (")],
)
def test_each_verdict_has_its_sentence(verdict, words):
    said = Answer("3", verdict == "unknown", {"3": 1.0}, 5.0, 3.0, 0.01, 0.05, "verdict", {}, "abc", verdict)
    assert in_words(said).startswith(words)


def test_json_goes_to_a_file_or_to_standard_output(tmp_path, capsys):
    write({"a": 1}, tmp_path / "deep" / "x.json")
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": 1}
    write({"a": 2}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"a": 2}


def test_help_names_every_verb():
    said = CliRunner().invoke(app, ["--help"]).stdout
    for verb in ("demo", "data", "train", "calibrate", "evaluate", "infer", "serve", "federate", "log", "bench"):
        assert verb in said


def test_a_drift_watch_is_told_with_its_share_of_strange_images():
    below = [{"level": 0.01, "images": 3, "limit": 0.0292}]
    steady = {"alarm": None, "images": 150, "started": "2026-05-01T12:00:00Z", "below": below}
    assert drift_line(steady) == (
        "[green]steady[/]; 150 images since 2026-05-01T12:00:00Z, 2.0% of them with p of at most 0.01, "
        "where 2.9% can be chance"
    )
    alarm = {"since": 90, "image": 120, "time": "2026-05-02T12:00:00Z"}
    said = drift_line({**steady, "alarm": alarm})
    assert said.startswith("[red]drifting[/] since about image 90, noticed at image 120, 2026-05-02T12:00:00Z; 150")


def test_an_error_is_shown_word_for_word_brackets_too(capsys):
    with pytest.raises(SystemExit):
        fail("pictures need matplotlib: pip install 'fedlmd[bench]'")
    assert capsys.readouterr().err == "error: pictures need matplotlib: pip install 'fedlmd[bench]'\n"
