"""Commands on a cluster: demo, serve, federate, log, drift."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from fedlmd.cli.options import CORES, JsonFile, Labels, Pretrained, SettingsFile, listed_labels, read_settings

Curves = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Write curves for TensorBoard into this folder.", metavar="DIR"),
]


def demo(
    output: Annotated[Path, typer.Option(help="Folder for homes, releases and the picture.")] = Path("demo-output"),
    pretrained: Pretrained = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster up until Ctrl-C.")] = False,
    json_file: JsonFile = None,
    settings_file: SettingsFile = None,
    data: Annotated[
        str | None, typer.Option(help="Own images: a folder, an .npz file, or a name; the shipped digits without it.")
    ] = None,
    labels: Annotated[
        str, typer.Option(help="Labels to learn, comma separated; all that are not unknown without it.")
    ] = "",
    unknown: Annotated[
        str, typer.Option(help="Labels to keep unknown, comma separated; all others, or the last third, without it.")
    ] = "",
    ports: Annotated[
        str, typer.Option(help="Ports of the REST services, comma separated: the server's, then each worker's.")
    ] = "9000,8800,8000",
) -> None:
    """Train a federation of nodes on this machine and let it predict known and unknown images: digits, or your own."""
    from contextlib import closing

    from fedlmd.cli.demo import demo as demonstration
    from fedlmd.cli.demo.data import Request
    from fedlmd.cli.demo.steps import Finished
    from fedlmd.cli.show import bars, console, demo_step, write

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    steps = demonstration.demo(
        output,
        Request(settings_file, data, labels, unknown, pretrained),
        keep=threading.Event() if keep else None,
        ports=demonstration.ports_of(ports),
    )
    # Whatever interrupts the printing of a step, the nodes are stopped at once.
    with closing(steps), bars() as shown:
        tasks: dict[str, Any] = {}
        for step in steps:
            demo_step(shown, tasks, step)
            if isinstance(step, Finished):
                write({"figures": step.figures}, json_file)
                if keep:
                    console().print("the cluster stays up; Ctrl-C ends it")


def serve(
    role: Annotated[str, typer.Option(help="server or worker.", envvar="FEDLMD_ROLE")],
    name: Annotated[str, typer.Option(help="The node's name.", envvar="FEDLMD_NAME")] = "node",
    home: Annotated[Path, typer.Option(help="The node's folder.", envvar="FEDLMD_HOME")] = Path("node-home"),
    settings_file: Annotated[
        Path | None, typer.Option("--settings", help="TOML file with the node's settings.", envvar="FEDLMD_SETTINGS")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="The data root, in which all images lie; HOME/data without it.", envvar="FEDLMD_DATA"),
    ] = None,
    worker: Annotated[
        int, typer.Option(help="Which share of a divided source, from 0.", min=0, envvar="FEDLMD_WORKER")
    ] = 0,
    host: Annotated[str, typer.Option(help="Address of the REST service.", envvar="FEDLMD_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the REST service.", min=0, max=65535, envvar="FEDLMD_PORT")] = 8000,
    superlink: Annotated[
        str, typer.Option(help="host:port of Flower's server.", envvar="FEDLMD_SUPERLINK")
    ] = "127.0.0.1:9092",
    flower_port: Annotated[
        int,
        typer.Option(
            help="A worker's port for its own Flower processes.", min=1, max=65535, envvar="FEDLMD_FLOWER_PORT"
        ),
    ] = 9094,
    threads: Annotated[int, typer.Option(help="Processor cores to use.", min=1, envvar="FEDLMD_CORES")] = CORES,
) -> None:
    """Run a node of a cluster until Ctrl-C."""
    from fedlmd.cli import fail
    from fedlmd.federation.flower.address import Address
    from fedlmd.node.config import NodeConfig
    from fedlmd.node.node import run

    if role not in ("server", "worker"):
        fail(f"--role is {role!r}; it is server or worker")
    Address.parse(superlink)  # before anything is started
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
            data=data.absolute() if data else Path(),
        )
    )


def federate(
    server: Annotated[str, typer.Option(help="URL of the server's REST service.")] = "http://127.0.0.1:9000",
    settings_file: SettingsFile = None,
    labels: Labels = "",
    pretrained: Pretrained = False,
    resume: Annotated[
        str | None, typer.Option("--resume", help="Resume this run, which failed or was stopped.", metavar="RUN")
    ] = None,
    json_file: JsonFile = None,
    tensorboard: Curves = None,
) -> None:
    """Start a federated run at a server, or resume one, and follow it; Ctrl-C leaves it running."""
    from fedlmd.cli import fail
    from fedlmd.cli.event_lines import event_line
    from fedlmd.cli.show import console, write
    from fedlmd.federation.tensorboard import TensorBoard
    from fedlmd.service.client import NodeClient

    board = TensorBoard(tensorboard) if tensorboard else None  # raises for a missing package before a run is started
    if resume is not None and (settings_file or labels or pretrained):
        fail("a resumed run keeps the plan that it was started with; leave --settings, --labels and --pretrained out")
    client, out = NodeClient(server), console()
    number = client.start_run(
        {"resume": resume} if resume is not None else run_order(settings_file, labels, pretrained)
    )
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


def run_order(settings_file: Path | None, labels: str, pretrained: bool) -> dict[str, Any]:
    """The body of the request that starts a run."""
    from fedlmd.settings import to_mapping

    changes = to_mapping(read_settings(settings_file)) if settings_file else {}
    changes.pop("data", None)  # each worker has its own data settings
    order: dict[str, Any] = {"settings": changes, "pretrained_detector": pretrained}
    return {**order, "labels": listed_labels(labels)} if labels else order


def log(
    run: Annotated[Path, typer.Argument(help="Folder of a run: runs/ID in the server's home.")],
    tensorboard: Curves = None,
) -> None:
    """Print the events of a run, from its event log."""
    from fedlmd.cli import fail
    from fedlmd.cli.event_lines import event_line
    from fedlmd.cli.show import console
    from fedlmd.federation.events import EventLog
    from fedlmd.federation.tensorboard import TensorBoard

    events = EventLog(run).read()
    if not events:
        fail(f"{run} has no event log of a run; runs lie in the folder runs of the server's home")
    for event in TensorBoard(tensorboard).log(run.resolve().name, events) if tensorboard else events:
        console().print(event_line(event))


def drift(
    nodes: Annotated[list[str], typer.Argument(help="URLs of the nodes' REST services.")],
    reset: Annotated[bool, typer.Option("--reset", help="Acknowledge alarms: watch anew from now on.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Show whether the images that nodes predict are like those that they were calibrated on."""
    from fedlmd.cli.show import console, drift_line, write
    from fedlmd.service.client import NodeClient

    reports = {}
    for url in nodes:
        client = NodeClient(url)
        reports[url] = client.reset_drift() if reset else client.drift()
        console().print(f"{url}: {drift_line(reports[url])}")
    write(reports, json_file)
