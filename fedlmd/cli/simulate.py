"""The command ``fedlmd simulate``: a federation of many workers on one machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from fedlmd.cli.options import CORES, JsonFile, SettingsFile, Threads, read_settings
from fedlmd.cli.show import console, event_line, fail, write
from fedlmd.simulation import simulate

__all__ = ["short_line", "simulate_command"]

# Workers of a round that are shown one by one.
SHOWN = 12


def simulate_command(
    workers: Annotated[int, typer.Option(help="Workers of the federation.", min=1)],
    settings_file: SettingsFile = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds; the settings' without it.", min=1)] = None,
    output: Annotated[Path, typer.Option(help="Folder for runs, releases and logs.")] = Path("simulation-output"),
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Carry out a federated run with many simulated workers on this machine, without a cluster."""
    chosen = read_settings(settings_file)
    if rounds is not None:
        chosen = replace(chosen, federation=replace(chosen.federation, rounds=rounds))
    out, event = console(), dict[str, Any]()
    for event in simulate(chosen, workers, output, actors=min(threads, workers)):
        out.print(short_line(event))
    if event.get("event") != "finished":
        fail(f"the run {event.get('event')}: {event.get('reason', 'no reason given')}")
    out.print(f"release {output / 'releases' / event['release']}")
    write(event, json_file)


def short_line(event: dict[str, Any]) -> str:
    """An event in words, without the names of many workers."""
    workers = event.get("workers")
    if event["event"] == "finished":
        metrics = {name: value for name, value in event["metrics"].items() if name != "workers"}
        return event_line({**event, "metrics": metrics})
    if not isinstance(workers, list) or len(workers) <= SHOWN:
        return event_line(event)
    if event["event"] != "round":
        return event_line({**event, "workers": f"{len(workers)} of them", "refused": len(event["refused"])})
    mean = ", ".join(f"{name} {value:.5g}" for name, value in sorted(event["metrics"].items()))
    head = f"[bold]round {event['round']}/{event['rounds']}[/]  {event['seconds']:.0f} s"
    return f"{head}\n    {len(workers)} of {event['asked']} workers averaged; mean {mean}"
