"""The command ``fedlmd simulate``: a federation of many workers on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedlmd.cli.options import CORES, JsonFile, SettingsFile, Threads, read_settings

# Workers of a round that are shown one by one.
SHOWN = 12


def simulate(
    workers: Annotated[int, typer.Option(help="Workers of the federation.", min=1)],
    settings_file: SettingsFile = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds; the settings' without it.", min=1)] = None,
    output: Annotated[Path, typer.Option(help="Folder for runs, releases and logs.")] = Path("simulation-output"),
    threads: Threads = CORES,
    json_file: JsonFile = None,
) -> None:
    """Execute a federated run with many simulated workers on this machine, without a cluster."""
    from dataclasses import replace

    from fedlmd.cli import fail
    from fedlmd.cli.show import console, write
    from fedlmd.simulation.launch import simulate as launch

    settings = read_settings(settings_file)
    if rounds is not None:
        settings = replace(settings, federation=replace(settings.federation, rounds=rounds))
    out, event = console(), dict[str, Any]()
    for event in launch(settings, workers, output, actors=min(threads, workers)):
        out.print(short_line(event))
    if event.get("event") != "finished":
        fail(f"the run {event.get('event')}: {event.get('reason', 'no reason given')}")
    out.print(f"release {output / 'releases' / event['release']}")
    write(event, json_file)


def short_line(event: dict[str, Any]) -> str:
    """An event as text, without the names of more than ``SHOWN`` workers."""
    from fedlmd.cli.show import event_line

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
