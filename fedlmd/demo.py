"""The demo: a server and two workers learn digits 0-4 together and tell a known digit from an unknown one."""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from fedlmd import artifacts
from fedlmd.answer import Answer, Answerer
from fedlmd.client import NodeClient, NodeError
from fedlmd.cluster import Cluster, NodePlace
from fedlmd.data import LabelledImages, load, some
from fedlmd.evaluation import Report, examine
from fedlmd.pictures import Row, channels_last, gallery, png
from fedlmd.progress import Progress
from fedlmd.settings import DIGITS

__all__ = ["SETTINGS", "Asked", "DemoError", "Finished", "Note", "RoundDone", "demo"]

SETTINGS = Path(__file__).parent / "demo.toml"
PORTS = (9000, 8800, 8000)


class DemoError(RuntimeError):
    """The federated run did not end well; the text says why."""


@dataclass(frozen=True)
class Note:
    """A sentence on what happens next."""

    text: str


@dataclass(frozen=True)
class RoundDone:
    """A round of the federation ended.

    Args:
        number: from 1.
        rounds: in all.
        seconds: that it took.
        workers: name and metrics of each.
        metrics: their mean, weighted by images.
    """

    number: int
    rounds: int
    seconds: float
    workers: list[dict[str, Any]]
    metrics: dict[str, float]


@dataclass(frozen=True)
class Asked:
    """What a node said over REST to one image.

    Args:
        node: which node.
        label: what the image shows.
        known: whether the federation has learnt that label.
        answer: the JSON answer.
    """

    node: str
    label: str
    known: bool
    answer: dict[str, Any]


@dataclass(frozen=True)
class Finished:
    """All that was measured.

    Args:
        figures: name to value, as the JSON file has them.
        report: the evaluation.
        release: folder of the release.
        picture: file of the picture.
    """

    figures: dict[str, Any]
    report: Report
    release: Path
    picture: Path


@dataclass
class PeakMemory:
    """Largest resident memory of this process and all its descendants together, sampled every half second."""

    mib: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        """Sample until ``over`` is set."""
        while not self.over.wait(0.5):
            self.mib = max(self.mib, sum(resident(process) for process in family()) / 2**20)


def family() -> list[psutil.Process]:
    """This process and its descendants."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def resident(process: psutil.Process) -> int:
    """A process's resident bytes; 0 when it just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def demo(
    output: Path,
    *,
    settings: Path = SETTINGS,
    pretrained: bool = False,
    keep: threading.Event | None = None,
    ports: tuple[int, ...] = PORTS,
) -> Iterator[Note | Progress | RoundDone | Asked | Finished]:
    """Run the demo; the last item is what was measured.

    Args:
        output: folder for the nodes' homes and the picture; what an earlier demo left in it is removed.
        settings: the run's TOML file.
        pretrained: take the detector's diffusion model from the shipped release.
        keep: leave the cluster up until this is set; None ends it at once.
        ports: of the REST services: server, then workers.

    Raises:
        ClusterError: when a node does not start.
        DemoError: when the federated run fails.
    """
    started, memory = time.monotonic(), PeakMemory()
    shutil.rmtree(output / "nodes", ignore_errors=True)
    cluster = Cluster(output / "nodes", settings, ports)
    threading.Thread(target=memory.watch, daemon=True).start()
    try:
        yield Note("starting one server and two workers on this machine")
        cluster.start()
        for node in cluster.nodes:
            yield Note(f"{node.name} answers at {node.url} (its API: {node.url}/docs)")
        client = NodeClient(cluster.server.url)
        run = client.start_run({"pretrained_detector": pretrained})
        yield Note(f"federated run {run}: both networks, round by round; no image leaves its worker")
        trained = time.monotonic()
        release = ""
        for item in follow(client, run, cluster.workers):
            if isinstance(item, dict):
                release = item["release"]
            else:
                yield item
        training_seconds = time.monotonic() - trained
        folder = cluster.home / "server" / "releases" / release
        yield Note(f"release {release} is installed at all nodes; now the test images, which nobody has seen")
        known, unknown = test_images(folder)
        answerer = Answerer(artifacts.load(folder))
        report = yield from measured(answerer, known, unknown)
        yield from ask_around(cluster.nodes, known, unknown)
        picture = draw(answerer, known, unknown, output / "demo.png")
        memory.over.set()
        figures = figures_of(report, release, training_seconds, time.monotonic() - started, memory.mib)
        yield Finished(figures, report, folder, picture)
        if keep is not None:
            keep.wait()
    finally:
        memory.over.set()
        cluster.stop()


def follow(
    client: NodeClient, run: str, workers: list[NodePlace]
) -> Iterator[Note | Progress | RoundDone | dict[str, Any]]:
    """A run's events in the demo's words, and between them what the first worker is at; last the final event."""
    events: queue.Queue[dict[str, Any] | NodeError] = queue.Queue()

    def listen() -> None:
        try:
            for event in client.events(run):
                events.put(event)
        except NodeError as error:
            events.put(error)

    threading.Thread(target=listen, daemon=True).start()
    worker = NodeClient(workers[0].url, timeout=5.0)
    while True:
        try:
            event = events.get(timeout=1.0)
        except queue.Empty:
            yield from at_work(worker)
            continue
        if isinstance(event, NodeError):
            raise DemoError(str(event))
        if event["event"] == "round":
            of = (event["round"], event["rounds"], event["seconds"], event["workers"], event["metrics"])
            yield RoundDone(*of)
        elif event["event"] == "refused":
            yield Note(f"an update was refused: {event}")
        elif event["event"] == "calibrating":
            yield Note(f"calibrating ({event['step']}): numbers from {', '.join(event['workers'])}")
        elif event["event"] == "installed" and event["refused"]:
            yield Note(f"not every worker could install the release: {event['refused']}")
        elif event["event"] == "finished":
            reached = event["metrics"]["workers"]
            said = ", ".join(f"{name} {of['accuracy']:.4f}" for name, of in sorted(reached.items()))
            yield Note(f"accuracy of the release on each worker's own test images: {said}")
            yield event
            return
        elif event["event"] in ("failed", "stopped"):
            raise DemoError(f"the run {event['event']}: {event.get('reason', 'no reason given')}")


def at_work(worker: NodeClient) -> Iterator[Progress]:
    """What a worker's trainer is at, if it answers."""
    try:
        told = worker.health().get("progress")
    except NodeError:
        return
    if told:
        yield Progress(told["stage"], told["done"], told["total"], told["metrics"])


def test_images(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """MNIST's test images of the release's digits, and of the other digits."""
    labels = artifacts.load(folder).card["settings"]["labels"]
    return load("mnist", "eval", labels=labels), load("mnist", "eval", labels=[d for d in DIGITS if d not in labels])


def measured(answerer: Answerer, known: LabelledImages, unknown: LabelledImages) -> Generator[Progress, None, Report]:
    """Examine the release with all cores; generator that returns the report."""
    threads = torch.get_num_threads()
    torch.set_num_threads(psutil.cpu_count() or 1)
    try:
        for item in examine(answerer, known, unknown, most=600):
            if isinstance(item, Report):
                return item
            yield item
    finally:
        torch.set_num_threads(threads)
    raise DemoError("the evaluation ended without a report")


def ask_around(nodes: list[NodePlace], known: LabelledImages, unknown: LabelledImages) -> Iterator[Asked]:
    """Send every node one random known and one random unknown digit."""
    seed = time.time_ns() % 2**31
    for offset, node in enumerate(nodes):
        for images, is_known in ((known, True), (unknown, False)):
            one = some(images, 1, seed + offset)
            data = png(channels_last(one.pixels[0].numpy()))
            label = one.names[int(one.labels[0])]
            yield Asked(node.name, label, is_known, NodeClient(node.url).infer(data, watch=False))


def draw(answerer: Answerer, known: LabelledImages, unknown: LabelledImages, file: Path) -> Path:
    """The demo's picture: a known digit and two unknown ones, what the detector redrew, where it differs."""
    rows = []
    for images, position in ((known, 0), (unknown, 0), (unknown, 1)):
        image = some(images, 2).images([position])
        answer: Answer = answerer.answer(image)[0]
        title = "a digit of the kind learnt" if images is known else "a digit that no site has ever seen"
        rows.append(Row(image[0], answerer.explain(image), answer, title))
    file.write_bytes(png(gallery(rows)))
    return file


def figures_of(report: Report, release: str, training: float, total: float, memory: float) -> dict[str, Any]:
    """The demo's figures by name."""
    return {
        "accuracy": round(report.classification.accuracy, 4),
        "auroc": round(report.separations["verdict"].auroc, 4),
        "auroc_lmd": round(report.separations["lmd"].auroc, 4),
        "auroc_one_step": round(report.separations["one-step"].auroc, 4),
        "auroc_max_logit": round(report.separations["max-logit"].auroc, 4),
        "false_alarm_rate": round(report.false_alarm_rate, 4),
        "detection_rate": round(report.detection_rate, 4),
        "alpha": report.alpha,
        "known": report.known,
        "unknown": report.unknown,
        "seconds": round(total, 1),
        "seconds_federated": round(training, 1),
        "peak_rss_mib": round(memory),
        "release": release,
    }
