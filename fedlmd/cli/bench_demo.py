"""The command that measures how long the demo has to train: bench demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from fedlmd import demo
from fedlmd.bench import minutes
from fedlmd.bench.minutes import MinutesBench
from fedlmd.cli.options import CORES, JsonFile, SettingsFile, Threads
from fedlmd.cli.show import console, watched, write

__all__ = ["demo_command"]

COLUMNS = {
    "min": "minutes",
    "verdict": "auroc",
    "LMD": "auroc_lmd",
    "Mahalanobis": "auroc_mahalanobis",
    "one-step": "auroc_one_step",
    "accuracy": "accuracy",
    "alarms": "false_alarm_rate",
}


def demo_command(
    output: Annotated[Path, typer.Option(help="Folder for the cluster's homes; a finished run is used.")] = Path(
        "bench-output/demo"
    ),
    settings_file: SettingsFile = None,
    images: Annotated[int, typer.Option(help="Test images of each kind that are scored.", min=2)] = MinutesBench.images,
    threads: Threads = CORES,
    json_file: JsonFile = Path("benchmarks/demo.json"),
) -> None:
    """Measure after how many minutes of training the demo finds unknown digits; can be stopped and goes on."""
    torch.set_num_threads(threads)
    config = MinutesBench(settings_file or demo.SETTINGS, images)
    for result in watched(minutes.measure(config, output)):
        table = Table(title="AUROC of a release made after each round", show_edge=False, title_justify="left")
        for head in ("round", *COLUMNS):
            table.add_column(head, justify="right")
        for row in result["rounds"]:
            table.add_row(str(row["round"]), *(f"{row[key]:.4g}" for key in COLUMNS.values()))
        Console(highlight=False).print(table)
        reached = result["figures"]["train_minutes_demo"]
        wanted = ", ".join(f"{name} {least:g}" for name, least in minutes.TARGETS.items())
        console().print(f"{wanted}: {'never reached' if reached is None else f'reached after {reached:.2f} minutes'}")
        write(result, json_file)
