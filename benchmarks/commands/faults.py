"""``python -m benchmarks faults``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.commands.options import RESULTS
from benchmarks.faults import FaultsBench, measure
from fedlmd.cli.options import JsonFile
from fedlmd.cli.show import console, console_beside, watched, write


def faults(
    output: Annotated[Path, typer.Option(help="Folder for the outcome of each fault; what is there is used.")] = Path(
        "bench-output/faults"
    ),
    fault: Annotated[list[str] | None, typer.Option(help="Only this fault; may be repeated.")] = None,
    limit: Annotated[float, typer.Option(help="Seconds after which a step counts as a hang.", min=1)] = 400.0,
    json_file: JsonFile = RESULTS / "faults.json",
) -> None:
    """Inject every fault into real processes and check the outcome by value; when stopped, it can be continued."""
    result = watched(measure(FaultsBench(tuple(fault or ()), limit), output))
    table = Table(show_edge=False)
    for column in ("fault", "what happened", "seconds to go on", "rounds lost", "resumed by hand"):
        table.add_column(column)
    for row in result["faults"]:
        outcome = row["skipped"] or (row["outcome"] if row["survived"] else "; ".join(row["problems"]))
        by_hand = "yes" if row["by_hand"] else "no"
        style = None if row["survived"] else "bold red"
        table.add_row(row["title"], outcome, f"{row['seconds']:.1f}", str(row["rounds_lost"]), by_hand, style=style)
    console_beside(json_file).print(table)
    figures = result["figures"]
    survived = figures["faults_injected"] - figures["faults_not_survived"]
    console().print(f"{survived} of {figures['faults_injected']} faults survived, {figures['hangs']} hangs")
    write(result, json_file)
