"""What the demo reports while it runs, and its federated run as such steps."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlmd.inference import Report
from fedlmd.progress import Progress
from fedlmd.service.client import NodeClient, NodeError


@dataclass(frozen=True)
class Note:
    """A sentence on what happens next."""

    text: str


@dataclass(frozen=True)
class Predicted:
    """A node's prediction of one image over REST.

    Args:
        node: name of the node.
        label: what the image shows.
        known: whether the federation was trained on that label.
        prediction: the JSON body of the response.
    """

    node: str
    label: str
    known: bool
    prediction: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """The results of the demo.

    Args:
        figures: name to value, as in the JSON file.
        report: the evaluation.
        release: folder of the release.
        picture: file of the picture.
        images: what the images are called.
    """

    figures: dict[str, Any]
    report: Report
    release: Path
    picture: Path
    images: str = "digits"


Event = dict[str, Any]
"""An event of a run, as its stream has it."""

Step = Note | Progress | Event | Predicted | Finished
"""A step of the demo (an event of the run is one that ends a round), or its results."""


def follow(client: NodeClient, run: str, worker: NodeClient) -> Generator[Note | Progress | Event, None, Event]:
    """A run's events as steps of the demo, and between them the progress of one worker; returns the final event.

    Args:
        client: of the server.
        run: its id.
        worker: whose progress is shown.

    Raises:
        NodeError: when the run fails or is stopped, or the server does not respond.
    """
    events = in_thread(client, run)
    while True:
        try:
            event = events.get(timeout=1.0)
        except queue.Empty:
            yield from progress_of(worker)
            continue
        if isinstance(event, NodeError):
            raise event
        if event["event"] in ("failed", "stopped"):
            raise NodeError(f"the run {event['event']}: {event.get('reason', 'no reason given')}")
        yield from steps_of(event)
        if event["event"] == "finished":
            return event


def in_thread(client: NodeClient, run: str) -> queue.Queue[Event | NodeError]:
    """A queue that a thread fills with a run's events and, where the stream breaks, with the error."""
    events: queue.Queue[Event | NodeError] = queue.Queue()

    def listen() -> None:
        try:
            for event in client.events(run):
                events.put(event)
        except NodeError as error:
            events.put(error)

    threading.Thread(target=listen, daemon=True).start()
    return events


def steps_of(event: Event) -> Iterator[Note | Event]:
    """What the demo reports of an event; nothing for most kinds."""
    match event["event"]:
        case "round":
            yield event
        case "refused":
            yield Note(f"an update was refused: {event}")
        case "calibrating":
            yield Note(f"calibrating ({event['step']}): numbers from {', '.join(event['workers'])}")
        case "installed" if event["refused"]:
            yield Note(f"not every worker could install the release: {event['refused']}")
        case "finished":
            workers = sorted(event["metrics"]["workers"].items())
            accuracies = ", ".join(f"{name} {metrics['accuracy']:.4f}" for name, metrics in workers)
            yield Note(f"accuracy of the release on each worker's own test images: {accuracies}")


def progress_of(worker: NodeClient) -> Iterator[Progress]:
    """What a worker's trainer does; nothing where it is idle or the worker does not respond."""
    try:
        progress = worker.health().get("progress")
    except NodeError:
        return
    if progress:
        yield Progress(progress["stage"], progress["done"], progress["total"], progress["metrics"])
