import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from fedlmd.calibration import PromiseCheck
from fedlmd.cli.demo.steps import Note, Predicted
from fedlmd.cli.show import (
    bars,
    console_beside,
    demo_step,
    drift_line,
    error_line,
    output,
    plain,
    prediction_line,
    report_shown,
    show,
    write,
)
from fedlmd.detection import Separation
from fedlmd.inference import Report
from fedlmd.progress import Progress
from fedlmd.training import Evaluation

ROUND = {"event": "round", "round": 2, "rounds": 6, "seconds": 30.0, "metrics": {}}
METRICS = {"accuracy": 0.5, "classifier-loss": 0.25, "num-examples": 70}

# Names of every kind that a terminal or rich could take for more than a name, and what is printed.
NAMES = {
    "plain name": "plain name",
    "é 猫 ± œ 😀": "é 猫 ± œ 😀",
    "[red]x": "[red]x",
    "[/]": "[/]",
    "[/red]": "[/red]",
    "[link=http://x]y[/link]": "[link=http://x]y[/link]",
    "[@click=quit]": "[@click=quit]",
    "a[1]": "a[1]",
    "[": "[",
    "end\\": "end\\",
    "end\\\\": "end\\\\",
    "\\[red]": "\\[red]",
    "\\\\[1]": "\\\\[1]",
    ":warning: :cat:": ":warning: :cat:",
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "two\nlines\r\ttab\x00": r"two\nlines\r\ttab\x00",
    "\x9b31m": r"\x9b31m",
    "photo\u202egnp.exe": r"photo\u202egnp.exe",
    "zero\u200bwidth": r"zero\u200bwidth",
    "line\u2028end": r"line\u2028end",
    "not utf-8 \udcff": r"not utf-8 \udcff",
    "": "",
}


@pytest.mark.parametrize(("name", "shown"), NAMES.items(), ids=ascii)
def test_a_name_is_printed_as_it_is_whatever_comes_before_and_after_it(name, shown):
    text = io.StringIO()
    console = Console(file=text, highlight=False, soft_wrap=True, emoji=False)
    for template in ("{}", "{} x", "[bold]{}[/] x", "x{}[bold]y[/]", "{}: [1]", "{}{}"):
        text.seek(0)
        text.truncate()
        console.print(template.format(*[plain(name)] * 2))
        words = template.replace("[bold]", "").replace("[/]", "")
        assert text.getvalue() == words.format(shown, shown) + "\n"


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_bars_errors_and_predictions_print_names_as_they_are(name, capsys):
    shown = NAMES[name]
    error_line(f"no {name} here")
    assert capsys.readouterr().err == f"error: no {shown} here\n"
    with bars() as drawn:
        show(drawn, {}, Progress(name, 1, 1, {name: 0.5}))
    assert f"{shown} 0.5" in capsys.readouterr().err
    prediction = {"is_ood": True, "verdict": "unknown", "prediction": name, "score": 5.0, "threshold": 3.0}
    output().print(prediction_line(Predicted(name, name, False, {**prediction, "p_value": 0.01})))
    assert f"{shown} was shown “{shown}” (unknown)" in capsys.readouterr().out


def test_results_go_to_standard_output_unless_the_json_does(capsys):
    for file in (None, Path("x.json"), Path("-")):
        console_beside(file).print(f"beside {file}")
    assert capsys.readouterr() == ("beside None\nbeside x.json\n", "beside -\n")


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


def test_json_goes_to_a_file_or_to_standard_output(tmp_path, capsys):
    write({"a": 1}, tmp_path / "deep" / "x.json")
    assert json.loads((tmp_path / "deep" / "x.json").read_text()) == {"a": 1}
    write({"a": 2}, Path("-"))
    assert json.loads(capsys.readouterr().out) == {"a": 2}
    write({"a": 3}, None)
    assert capsys.readouterr().out == ""


def test_json_holds_null_for_what_is_not_finite_and_an_escape_for_what_is_no_text(tmp_path, capsys):
    result = {"b\udcff.png": [math.nan, (math.inf,)], "é": 1.5}
    write(result, tmp_path / "x.json")
    write(result, Path("-"))
    for text in ((tmp_path / "x.json").read_text(encoding="utf-8"), capsys.readouterr().out):
        assert "NaN" not in text
        assert "Infinity" not in text
        assert json.loads(text) == {"b\udcff.png": [None, [None]], "é": 1.5}


def test_a_figure_of_a_node_that_is_not_finite_is_left_out_of_its_bar(capsys):
    with bars() as shown:
        show(shown, {}, Progress("classifier", 1, 2, {"loss": None, "rate": 0.5}))
    assert "rate 0.5" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("alarms", "colour", "words"),
    [
        (30, "green", "5.0% of 600, as promised"),
        (77, "red", "12.8% of 600, where alpha 5% promises 2.5% to 8.0%: the evaluation images are drawn otherwise"),
        (2, "yellow", "0.3% of 600, where alpha 5% promises 2.5% to 8.0%: the evaluation images are easier"),
    ],
)
def test_an_evaluation_says_whether_the_promised_false_alarm_rate_is_kept(alarms, colour, words):
    promise = PromiseCheck(600, alarms, 0.05, 0.025, 0.08, 0.5, kept=alarms == 30)
    separations = {"verdict": Separation(0.9, 0.8, 0.2)}
    report = Report(Evaluation(0.99, 0.1, 600), 600, 600, 0.05, alarms / 600, 0.7, separations, promise)
    *_, sentence = report_shown(report).renderables
    assert sentence.startswith(f"[{colour}]false alarms on evaluation images: {words}")


def test_a_frozen_camera_and_a_recording_are_printed_as_such():
    below = [{"level": 0.01, "images": 0, "limit": 0.0292}]
    alarm = {"image": 25, "in_a_row": 20, "time": "2026-05-02T12:00:00Z"}
    repeats = {"images": 155, "in_a_row": 150, "share": 1.0, "alarm": alarm}
    watch = {"alarm": None, "images": 6, "started": "2026-05-01T12:00:00Z", "below": below, "repeats": repeats}
    assert drift_line(watch).startswith(
        "[red]frozen[/]: the last 150 images are identical; is the camera stuck?; 6 images since 2026-05-01"
    )
    loop = {**watch, "repeats": {**repeats, "in_a_row": 1, "share": 0.9}}
    assert drift_line(loop).startswith("[red]repeating[/]: 90% of the latest 100 images came before; is a recording ")
    over = {**watch, "repeats": {**repeats, "in_a_row": 1, "share": 0.1}}
    assert drift_line(over).startswith("[yellow]repeating[/] at image 25, 2026-05-02T12:00:00Z, and no longer")
    assert drift_line({**watch, "repeats": {**repeats, "alarm": None}}).startswith("[green]steady[/]")
    drifting = {"since": 90, "image": 120, "time": "t"}
    assert ", t; [red]frozen[/]: the last 150" in drift_line({**watch, "alarm": drifting})


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
