"""Commands on a cluster: demo, serve, federate, log, drift."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from fedlmd import demo as demonstration
from fedlmd import settings
from fedlmd.cli.options import CORES, JsonFile, SettingsFile, read_settings
from fedlmd.cli.show import (
    asked_line,
    bars,
    clear,
    console,
    drift_line,
    event_line,
    fail,
    report_lines,
    report_table,
    round_line,
    show,
    write,
)
from fedlmd.client import NodeClient
from fedlmd.federation.events import EventLog
from fedlmd.node import NodeConfig, run
from fedlmd.progress import Progress
from fedlmd.tensorboard import TensorBoard

__all__ = ["demo", "drift", "federate", "log", "serve"]

Curves = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Write curves for TensorBoard into this folder.", metavar="DIR"),
]


def demo(
    output: Annotated[Path, typer.Option(help="Folder for homes, releases and the picture.")] = Path("demo-output"),
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Take the detector from the shipped release.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster up until Ctrl-C.")] = False,
    json_file: JsonFile = None,
    settings_file: SettingsFile = None,
) -> None:
    """Train a federation of three nodes on this machine and ask it known and unknown digits."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    steps = demonstration.demo(
        output,
        settings=settings_file or demonstration.SETTINGS,
        pretrained=pretrained,
        keep=threading.Event() if keep else None,
    )
    out = console()
    with bars() as shown:
        tasks: dict[str, Any] = {}
        for step in steps:
            if isinstance(step, Progress):
                show(shown, tasks, step)
            elif isinstance(step, demonstration.Note):
                clear(shown, tasks)
                shown.console.print(f"[bold]·[/] {step.text}")
            elif isinstance(step, demonstration.RoundDone):
                clear(shown, tasks)
                shown.console.print(round_line(step))
            elif isinstance(step, demonstration.Asked):
                shown.console.print(asked_line(step))
            else:
                shown.stop()
                out.print("\nthe federation's release on test digits that no site has seen:")
                out.print(report_table(step.report))
                out.print(report_lines(step.report))
                out.print(f"picture   {step.picture}\nrelease   {step.release}")
                out.print(f"{step.figures['seconds']:.0f} s in all, {step.figures['peak_rss_mib']} MiB at most")
                write({"figures": step.figures}, json_file)
                if keep:
                    out.print("the cluster stays up; Ctrl-C ends it")


def serve(
    role: Annotated[str, typer.Option(help="server or worker.", envvar="FEDLMD_ROLE")],
    name: Annotated[str, typer.Option(help="The node's name.", envvar="FEDLMD_NAME")] = "node",
    home: Annotated[Path, typer.Option(help="The node's folder.", envvar="FEDLMD_HOME")] = Path("node-home"),
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML file with the node's settings.", envvar="FEDLMD_SETTINGS")
    ] = None,
    worker: Annotated[int, typer.Option(help="Which share of a divided source, from 0.", envvar="FEDLMD_WORKER")] = 0,
    host: Annotated[str, typer.Option(help="Address of the REST service.", envvar="FEDLMD_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the REST service.", envvar="FEDLMD_PORT")] = 8000,
    superlink: Annotated[
        str, typer.Option(help="host:port of Flower's server.", envvar="FEDLMD_SUPERLINK")
    ] = "127.0.0.1:9092",
    flower_port: Annotated[
        int, typer.Option(help="A worker's port for its own Flower processes.", envvar="FEDLMD_FLOWER_PORT")
    ] = 9094,
    threads: Annotated[int, typer.Option(help="Processor cores to use.", min=1, envvar="FEDLMD_CORES")] = CORES,
) -> None:
    """Be a node of a cluster until Ctrl-C."""
    if role not in ("server", "worker"):
        fail(f"--role is {role!r}; it is server or worker")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run(
        NodeConfig(
            name=name,
            role="server" if role == "server" else "worker",
            home=home.absolute(),
            settings=read_settings(settings_file),
            worker=worker,
            host=host,
            port=port,
            superlink=superlink,
            flower_port=flower_port,
            threads=threads,
        )
    )


def federate(
    server: Annotated[str, typer.Option(help="URL of the server's REST service.")] = "http://127.0.0.1:9000",
    settings_file: SettingsFile = None,
    labels: Annotated[str, typer.Option(help="Labels to learn, comma separated; the settings' without it.")] = "",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Take the detector from the shipped release.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Go on with this run, which failed or was stopped.", metavar="RUN")
    ] = None,
    json_file: JsonFile = None,
    tensorboard: Curves = None,
) -> None:
    """Start a federated run at a server, or go on with one, and follow it; Ctrl-C leaves it running."""
    board = TensorBoard(tensorboard) if tensorboard else None  # what is missing shows before a run is started
    if resume is not None and (settings_file or labels or pretrained):
        fail("a resumed run keeps the plan that it was started with; leave --settings, --labels and --pretrained out")
    changes = settings.to_mapping(settings.read(settings_file)) if settings_file else {}
    changes.pop("data", None)  # each site's own matter
    order: dict[str, Any] = {"settings": changes, "pretrained_detector": pretrained}
    if labels:
        order["labels"] = labels.split(",")
    if resume is not None:
        order = {"resume": resume}
    client, out = NodeClient(server), console()
    number = client.start_run(order)
    out.print(f"run {number} at {server}")
    event: dict[str, Any] = {}
    events = client.events(number)
    for event in board.log(number, events) if board else events:
        out.print(event_line(event))
    if event.get("event") in ("failed", "stopped"):
        fail(f"the run {event['event']}: {event.get('reason', 'no reason given')}; go on with --resume {number}")
    if event.get("event") != "finished":
        fail(f"{server} went away before the run ended; once it is back, look with --resume {number}")
    write(event, json_file)


def log(
    run: Annotated[Path, typer.Argument(help="Folder of a run: runs/ID in the server's home.")],
    tensorboard: Curves = None,
) -> None:
    """Tell what happened in a run, from its diary."""
    events = EventLog(run).read()
    if not events:
        fail(f"{run} has no diary of a run; runs lie in the folder runs of the server's home")
    for event in TensorBoard(tensorboard).log(run.resolve().name, events) if tensorboard else events:
        console().print(event_line(event))


def drift(
    nodes: Annotated[list[str], typer.Argument(help="URLs of the nodes' REST services.")],
    reset: Annotated[bool, typer.Option("--reset", help="Acknowledge alarms: watch anew from now on.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Say whether nodes are asked about other images than they were calibrated on."""
    found = {}
    for url in nodes:
        client = NodeClient(url)
        found[url] = client.reset_drift() if reset else client.drift()
        console().print(f"{url}: {drift_line(found[url])}")
    write(found, json_file)
