import csv
import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

from fedlmd.cli.answers import Answer
from fedlmd.cli.rows import csv_rows, jsonl_rows, table_rows
from fedlmd.cli.show import visible
from fedlmd.inference import Prediction

NAMES = ["a.png", "[red]b.png", "c,\"d'\n.png", "é 猫.png", "\udcff.png", "\x1b[2J.png"]


def prediction(label="7", verdict="known", **other):
    fields = {
        "prediction": label,
        "is_ood": verdict == "unknown",
        "probabilities": {label: 0.9, "other": 0.1},
        "score": 1.25,
        "threshold": 3.5,
        "p_value": 0.25,
        "alpha": 0.05,
        "detector": "verdict",
        "scores": {"verdict": 1.25},
        "release": "0123",
        "verdict": verdict,
    }
    return Prediction(**{**fields, **other})


@pytest.mark.parametrize("name", NAMES)
def test_a_line_of_json_and_a_row_of_csv_name_the_file_as_it_is(name):
    for answer in (Answer(name, prediction=prediction()), Answer(name, "it is empty")):
        lines, table = io.BytesIO(), io.BytesIO()
        jsonl_rows(lines)([answer])
        csv_rows(table)([answer])
        assert lines.getvalue().count(b"\n") == 1
        assert json.loads(lines.getvalue())["file"] == name
        [row] = csv.DictReader(io.StringIO(table.getvalue().decode(), newline=""))
        assert row["file"] == name.replace("\udcff", r"\udcff")


def test_a_row_of_csv_holds_what_decided_and_is_empty_where_there_is_nothing():
    stream = io.BytesIO()
    write = csv_rows(stream)
    assert stream.getvalue().decode() == ("file,prediction,probability,verdict,is_ood,score,threshold,p_value,error\n")
    write([Answer("a", prediction=prediction(threshold=None)), Answer("b", "no image")])
    assert stream.getvalue().decode().splitlines()[1:] == ["a,7,0.9,known,false,1.25,,0.25,", "b,,,,,,,,no image"]


def test_a_line_of_json_is_the_whole_prediction_or_an_error():
    stream = io.BytesIO()
    jsonl_rows(stream)([Answer("a", prediction=prediction(threshold=None)), Answer("b", "no image")])
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["threshold"] is None
    assert first["probabilities"] == {"7": 0.9, "other": 0.1}
    assert second == {"file": "b", "error": "no image"}


def test_the_table_is_aligned_whatever_the_labels_and_names_are():
    out = Console(file=io.StringIO(), soft_wrap=True, highlight=False, emoji=False)
    labels = ["猫", "[red]a long label", "x"]
    write = table_rows(out, labels)
    for label in labels:
        write([Answer(name, prediction=prediction(label, "unknown")) for name in NAMES])
    write([Answer("bad", "no image")])
    heading, *lines = out.file.getvalue().splitlines()
    assert heading.split() == ["verdict", "class", "score", "p-value", "file"]
    assert len(lines) == len(labels) * len(NAMES)
    for line, name in zip(lines, NAMES * len(labels), strict=True):
        assert line.endswith(f"  {visible(name)}")
        assert cell_len(line) - cell_len(visible(name)) == cell_len(heading) - len("file")
    assert "unknown    [red]a long label      1.25     0.25  [red]b.png" in lines
