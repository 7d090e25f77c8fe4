"""``python -m benchmarks demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from benchmarks.commands.options import RESULTS
from benchmarks.time_to_auroc import TARGETS, TimeToAurocBench, measure
from fedlmd.cli.demo.data import SETTINGS
from fedlmd.cli.options import CORES, JsonFile, SettingsFile, Threads
from fedlmd.cli.show import console, console_beside, watched, write

COLUMNS = {
    "min": "minutes",
    "verdict": "auroc",
    "LMD": "auroc_lmd",
    "Mahalanobis": "auroc_mahalanobis",
    "one-step": "auroc_one_step",
    "accuracy": "accuracy",
    "alarms": "false_alarm_rate",
}


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the cluster's homes; a finished run is used.")] = Path(
        "bench-output/demo"
    ),
    settings_file: SettingsFile = None,
    images: Annotated[int, typer.Option(help="Test images of each kind that are scored.", min=2)] = 600,
    threads: Threads = CORES,
    json_file: JsonFile = RESULTS / "demo.json",
) -> None:
    """Measure after how many minutes of training the demo finds unknown digits; when stopped, it can be continued."""
    torch.set_num_threads(threads)
    result = watched(measure(TimeToAurocBench(settings_file or SETTINGS, images), output))
    table = Table(title="AUROC of a release made after each round", show_edge=False, title_justify="left")
    for head in ("round", *COLUMNS):
        table.add_column(head, justify="right")
    for row in result["rounds"]:
        table.add_row(str(row["round"]), *(f"{row[key]:.4g}" for key in COLUMNS.values()))
    console_beside(json_file).print(table)
    minutes = result["figures"]["train_minutes_demo"]
    targets = ", ".join(f"{name} {least:g}" for name, least in TARGETS.items())
    console().print(f"{targets}: {'never reached' if minutes is None else f'reached after {minutes:.2f} minutes'}")
    write(result, json_file)
