"""``fedlmd bench faults``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedlmd.bench import faults
from fedlmd.bench.faults import FaultsBench
from fedlmd.cli.options import JsonFile
from fedlmd.cli.show import console, watched, write

__all__ = ["faults_command"]


def faults_command(
    output: Annotated[Path, typer.Option(help="Folder for what came of each fault; what is there is used.")] = Path(
        "bench-output/faults"
    ),
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault; may be repeated.")] = None,
    limit: Annotated[float, typer.Option(help="Seconds after which a step counts as a hang.", min=1)] = 400.0,
    json_file: JsonFile = Path("benchmarks/faults.json"),
) -> None:
    """Inject every fault into real processes and check by value what comes of the run; can be stopped and goes on."""
    for result in watched(faults.measure(FaultsBench(tuple(fault or ()), limit), output)):
        table = Table(show_edge=False)
        for column in ("fault", "what happened", "seconds to go on", "rounds lost", "resumed by hand"):
            table.add_column(column)
        for row in result["faults"]:
            came = row["skipped"] or (row["outcome"] if row["survived"] else "; ".join(row["problems"]))
            by_hand = "yes" if row["by_hand"] else "no"
            style = None if row["survived"] else "bold red"
            table.add_row(row["title"], came, f"{row['seconds']:.1f}", str(row["rounds_lost"]), by_hand, style=style)
        Console(highlight=False, soft_wrap=True).print(table)
        figures = result["figures"]
        survived = figures["faults_injected"] - figures["faults_not_survived"]
        console().print(f"{survived} of {figures['faults_injected']} faults survived, {figures['hangs']} hangs")
        write(result, json_file)
