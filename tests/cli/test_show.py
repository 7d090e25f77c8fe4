import json
from pathlib import Path

from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.cli.show import asked_line, event_line, round_line, write
from fedlmd.demo import Asked, RoundDone

METRICS = {"accuracy": 0.5, "classifier-loss": 0.25, "num-examples": 70}


def test_a_round_is_a_line_and_one_for_each_worker_by_name():
    workers = [{"name": "b", "metrics": METRICS}, {"name": "a", "metrics": METRICS}]
    lines = round_line(RoundDone(2, 6, 30.0, workers, {})).splitlines()
    assert "2/6" in lines[0]
    assert "about 120 s" in lines[0]
    assert lines[1:] == [f"    {name}: accuracy before 0.5, classifier loss 0.25, images 70" for name in "ab"]


def test_an_event_is_told_in_words():
    event = {"time": "t", "event": "refused", "worker": "a", "reason": "it holds a NaN"}
    assert event_line(event) == '[bold]refused[/] {"worker": "a", "reason": "it holds a NaN"}'


def test_an_answer_is_marked_right_or_wrong():
    answer = {"is_ood": True, "prediction": 3, "score": 5.0, "threshold": 3.0, "p_value": 0.01}
    assert "✓" in asked_line(Asked("server", "7", False, answer))
    assert "✗" in asked_line(Asked("server", "3", True, answer))


def test_json_goes_to_a_file_or_to_standard_output(tmp_path, capsys):
    write({"a": 1}, tmp_path / "deep" / "x.json")
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": 1}
    write({"a": 2}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"a": 2}


def test_help_names_every_verb():
    said = CliRunner().invoke(app, ["--help"]).stdout
    for verb in ("demo", "data", "train", "calibrate", "evaluate", "infer", "serve", "federate", "bench"):
        assert verb in said
