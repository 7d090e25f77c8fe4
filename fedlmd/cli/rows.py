"""Predictions of many files as they come: an aligned line, a line of JSON or a row of CSV for each file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from io import StringIO
from typing import Any, BinaryIO

from rich.cells import cell_len
from rich.console import Console

from fedlmd.cli.answers import Answer
from fedlmd.cli.show import plain, visible
from fedlmd.inference import Prediction
from fedlmd.release import finite

Rows = Callable[[Sequence[Answer]], None]
"""Writes the answers of one batch."""

STYLES = {"known": "green", "uncertain": "yellow", "unknown": "red"}
WIDEST = 30
"""Cells of a terminal that the column of classes takes at most; longer labels move the rest of their line."""

COLUMNS = ("file", "prediction", "probability", "verdict", "is_ood", "score", "threshold", "p_value", "error")
"""Of CSV; ``probability`` is that of the predicted label."""


def table_rows(out: Console, labels: Sequence[str]) -> Rows:
    """Write aligned lines for a person, below a heading; files without a prediction are left out.

    Args:
        out: where to.
        labels: of the release; they give the width of a column.
    """
    width = min(WIDEST, max(cell_len(visible(label)) for label in (*labels, "class")))
    heading = [f"{'verdict':<9}  {padded('class', width)}  {'score':>8}  {'p-value':>7}  file"]

    def write(batch: Sequence[Answer]) -> None:
        for answer in batch:
            if answer.prediction is not None:
                while heading:
                    out.print(heading.pop())
                out.print(table_line(answer.name, answer.prediction, width))

    return write


def table_line(name: str, prediction: Prediction, width: int) -> str:
    """One line of the table, as markup."""
    verdict = f"[{STYLES[prediction.verdict]}]{prediction.verdict:<9}[/]"
    label = padded(prediction.label, width)
    return f"{verdict}  {label}  {prediction.score:>8.2f}  {prediction.p_value:>7.3g}  {plain(name)}"


def padded(label: str, width: int) -> str:
    """A label as markup with spaces behind it, up to a number of cells of a terminal."""
    return plain(label) + " " * (width - cell_len(visible(label)))


def jsonl_rows(stream: BinaryIO) -> Rows:
    """Write one JSON object on a line for each file: "file", and the prediction's fields or "error"."""

    def write(batch: Sequence[Answer]) -> None:
        rows = ({"file": answer.name, **as_json(answer)} for answer in batch)
        send(stream, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))

    return write


def csv_rows(stream: BinaryIO) -> Rows:
    """Write one row of CSV for each file, below a row of ``COLUMNS``."""

    def write(batch: Sequence[Answer]) -> None:
        send(stream, csv_text(map(csv_row, batch)))

    send(stream, csv_text([COLUMNS]))
    return write


def csv_row(answer: Answer) -> list[Any]:
    """The values of ``COLUMNS``; empty where there is none."""
    values: dict[str, Any] = {"file": answer.name, **as_json(answer)}
    if answer.prediction is not None:
        values["probability"] = answer.prediction.probabilities[answer.prediction.label]
        values["is_ood"] = str(values["is_ood"]).lower()
    return [values.get(column) for column in COLUMNS]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV with lines that end as on Unix."""
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_json(answer: Answer) -> dict[str, Any]:
    """The fields of a prediction, or "error" with the reason that there is none."""
    if answer.prediction is None:
        return {"error": answer.problem}
    fields: dict[str, Any] = finite(asdict(answer.prediction))
    return fields


def send(stream: BinaryIO, text: str) -> None:
    """Write text as UTF-8; what that cannot encode, such as a part of a file's name, as JSON's own escape."""
    stream.write(text.encode(errors="backslashreplace"))
    stream.flush()
