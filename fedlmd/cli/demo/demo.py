"""The demo: a server and its workers learn some labels together and tell a known image from an unknown one."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from fedlmd.cli.demo.data import Request, Subject, subject_of
from fedlmd.cli.demo.labels import DemoError
from fedlmd.cli.demo.steps import Finished, Note, Predicted, Step, follow
from fedlmd.cli.peak_memory import PeakMemory
from fedlmd.data import LabelledImages, some
from fedlmd.inference import Predictor, Report, Row, examine, gallery, png
from fedlmd.node.cluster import Cluster, NodePlace
from fedlmd.node.cores import available_cores
from fedlmd.progress import Progress
from fedlmd.release import load_release
from fedlmd.service.client import NodeClient

PORTS = (9000, 8800, 8000)
AUROCS = {"auroc": "verdict", "auroc_lmd": "lmd", "auroc_one_step": "one-step", "auroc_max_logit": "max-logit"}
"""Figures of the demo, and the score of each."""


def demo(
    output: Path,
    request: Request,
    *,
    keep: threading.Event | None = None,
    ports: tuple[int, ...] = PORTS,
) -> Generator[Step, None, None]:
    """Run the demo; the last step has the results.

    Args:
        output: folder for the nodes' homes and the picture; what an earlier demo left in it is removed.
        request: what is learnt.
        keep: leave the cluster up until this is set; None stops it at once.
        ports: of the REST services: server, then workers.

    Raises:
        DemoError: when the request cannot be met.
        DataError: when the images cannot be used.
        ClusterError: when a node does not start.
        NodeError: when the federated run fails.
    """
    started, memory = time.monotonic(), PeakMemory()
    subject = yield from subject_of(request, output, len(ports) - 1)
    known, unknown = subject.test_images()
    cluster = Cluster(output / "nodes", subject.settings, ports, data=subject.root)
    cluster.refuse_taken_ports()  # an earlier demo that still runs keeps its homes
    shutil.rmtree(cluster.home, ignore_errors=True)
    threading.Thread(target=memory.watch, daemon=True).start()
    try:
        workers = "two workers" if len(cluster.workers) == 2 else f"{len(cluster.workers)} workers"
        yield Note(f"starting one server and {workers} on this machine")
        cluster.start()
        for node in cluster.nodes:
            yield Note(f"{node.name} answers at {node.url} (its API: {node.url}/docs)")
        folder, training_seconds = yield from federated(cluster, request.pretrained)
        predictor = Predictor(load_release(folder))
        report = yield from measured(predictor, known, unknown)
        yield from predictions(cluster.nodes, subject)
        picture = draw(predictor, known, unknown, output / "demo.png", subject)
        memory.over.set()
        figures = figures_of(report, folder.name, training_seconds, time.monotonic() - started, memory.mib)
        if subject.noun != "digit":
            figures |= {"labels": list(subject.labels), "unknown_labels": list(subject.unknown)}
        yield Finished(figures, report, folder, picture, f"{subject.noun}s")
        if keep is not None:
            keep.wait()
    finally:
        memory.over.set()
        cluster.stop()


def federated(cluster: Cluster, pretrained: bool) -> Generator[Step, None, tuple[Path, float]]:
    """Execute a federated run; the generator returns the folder of its release and the seconds that it took."""
    client = NodeClient(cluster.server.url)
    run = client.start_run({"pretrained_detector": pretrained})
    yield Note(f"federated run {run}: both networks, round by round; no image leaves its worker")
    started = time.monotonic()
    event = yield from follow(client, run, NodeClient(cluster.workers[0].url, timeout=5.0))
    seconds, release = time.monotonic() - started, str(event["release"])
    yield Note(f"release {release} is installed at all nodes; now the test images, which nobody has seen")
    return cluster.home / "server" / "releases" / release, seconds


def measured(predictor: Predictor, known: LabelledImages, unknown: LabelledImages) -> Generator[Progress, None, Report]:
    """Examine the release with all cores; the generator returns the report."""
    threads = torch.get_num_threads()
    torch.set_num_threads(available_cores())
    try:
        return (yield from examine(predictor, known, unknown, most=600))
    finally:
        torch.set_num_threads(threads)


def predictions(nodes: list[NodePlace], subject: Subject) -> Iterator[Predicted]:
    """Let every node predict one random known and one random unknown image."""
    seed = time.time_ns() % 2**31
    for offset, node in enumerate(nodes):
        for known in (True, False):
            label, data = subject.example(known=known, seed=seed + offset)
            yield Predicted(node.name, label, known, NodeClient(node.url).infer(data, watch=False))


def draw(predictor: Predictor, known: LabelledImages, unknown: LabelledImages, file: Path, subject: Subject) -> Path:
    """The demo's picture: a known image and two unknown ones with their reconstructions and heat-maps."""
    rows = []
    for images, position in ((known, 0), (unknown, 0), (unknown, 1)):
        if position < len(images):
            one = some(images, 2).take([position])
            title, image = subject.title(one.names[int(one.labels[0])], known=images is known), one.images()
            rows.append(Row(image[0], predictor.explain(image), predictor.predict(image)[0], title))
    file.write_bytes(png(gallery(rows)))
    return file


def figures_of(report: Report, release: str, training: float, total: float, memory: float) -> dict[str, Any]:
    """The demo's figures by name."""
    return {
        "accuracy": round(report.classification.accuracy, 4),
        **{name: round(report.separations[score].auroc, 4) for name, score in AUROCS.items()},
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


def ports_of(text: str) -> tuple[int, ...]:
    """Ports of an option, comma separated: the server's, then the workers'.

    Raises:
        DemoError: when they are not at least three different ports.
    """
    parts = [part.strip() for part in text.split(",")]
    ports = tuple(int(part) for part in parts if part.isascii() and part.isdigit())
    if len(ports) < len(parts) or not all(0 < port < 65536 for port in ports):
        raise DemoError(f"--ports is {text!r}; give whole numbers from 1 to 65535, such as --ports {shown(PORTS)}")
    if len(ports) < 3 or len(set(ports)) < len(ports):
        raise DemoError(
            f"--ports is {text!r}; give at least three ports, none of them twice: the server's, then one for each "
            f"worker, such as --ports {shown(PORTS)}"
        )
    return ports


def shown(ports: tuple[int, ...]) -> str:
    """Ports as the option has them."""
    return ",".join(map(str, ports))
