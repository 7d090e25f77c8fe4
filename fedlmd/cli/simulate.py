"""The command ``fedlmd simulate``: a federation of many workers on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedlmd.cli.options import CORES, JsonFile, SettingsFile, Threads, read_settings


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
    from fedlmd.cli.event_lines import event_line
    from fedlmd.cli.show import console, plain, write
    from fedlmd.simulation.launch import simulate as launch

    settings = read_settings(settings_file)
    if rounds is not None:
        settings = replace(settings, federation=replace(settings.federation, rounds=rounds))
    out, event = console(), dict[str, Any]()
    for event in launch(settings, workers, output, actors=min(threads, workers)):
        out.print(event_line(event))
    if event.get("event") != "finished":
        fail(f"the run {event.get('event')}: {event.get('reason', 'no reason given')}")
    out.print(f"release {plain(output / 'releases' / event['release'])}")
    write(event, json_file)
