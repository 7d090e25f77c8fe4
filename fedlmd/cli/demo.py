"""The demo: a server and two workers learn digits 0-4 together and tell a known digit from an unknown one."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch

from fedlmd.cli.demo_steps import Finished, Note, Predicted, Step, follow
from fedlmd.cli.peak_memory import PeakMemory
from fedlmd.data import LabelledImages, load, some
from fedlmd.inference import Predictor, Report, Row, channels_last, examine, gallery, png
from fedlmd.node.cluster import Cluster, NodePlace
from fedlmd.progress import Progress
from fedlmd.release import load_release
from fedlmd.service.client import NodeClient
from fedlmd.settings import DIGITS

SETTINGS = Path(__file__).parent / "demo.toml"
PORTS = (9000, 8800, 8000)


def demo(
    output: Path,
    *,
    settings: Path = SETTINGS,
    pretrained: bool = False,
    keep: threading.Event | None = None,
    ports: tuple[int, ...] = PORTS,
) -> Iterator[Step]:
    """Run the demo; the last step has the results.

    Args:
        output: folder for the nodes' homes and the picture; what an earlier demo left in it is removed.
        settings: the run's TOML file.
        pretrained: take the detector's diffusion model from the shipped release.
        keep: leave the cluster up until this is set; None stops it at once.
        ports: of the REST services: server, then workers.

    Raises:
        ClusterError: when a node does not start.
        NodeError: when the federated run fails.
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
        folder, training_seconds = yield from federated(cluster, pretrained)
        known, unknown = test_images(folder)
        predictor = Predictor(load_release(folder))
        report = yield from measured(predictor, known, unknown)
        yield from predictions(cluster.nodes, known, unknown)
        picture = draw(predictor, known, unknown, output / "demo.png")
        memory.over.set()
        figures = figures_of(report, folder.name, training_seconds, time.monotonic() - started, memory.mib)
        yield Finished(figures, report, folder, picture)
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


def test_images(folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """MNIST's test images of the release's digits, and of the other digits."""
    labels = load_release(folder).card["settings"]["labels"]
    return load("mnist", "eval", labels=labels), load("mnist", "eval", labels=[d for d in DIGITS if d not in labels])


def measured(predictor: Predictor, known: LabelledImages, unknown: LabelledImages) -> Generator[Progress, None, Report]:
    """Examine the release with all cores; the generator returns the report."""
    threads = torch.get_num_threads()
    torch.set_num_threads(psutil.cpu_count() or 1)
    try:
        return (yield from examine(predictor, known, unknown, most=600))
    finally:
        torch.set_num_threads(threads)


def predictions(nodes: list[NodePlace], known: LabelledImages, unknown: LabelledImages) -> Iterator[Predicted]:
    """Let every node predict one random known and one random unknown digit."""
    seed = time.time_ns() % 2**31
    for offset, node in enumerate(nodes):
        for images, is_known in ((known, True), (unknown, False)):
            one = some(images, 1, seed + offset)
            data = png(channels_last(one.pixels[0].numpy()))
            label = one.names[int(one.labels[0])]
            yield Predicted(node.name, label, is_known, NodeClient(node.url).infer(data, watch=False))


def draw(predictor: Predictor, known: LabelledImages, unknown: LabelledImages, file: Path) -> Path:
    """The demo's picture: a known digit and two unknown ones with their reconstructions and heat-maps."""
    rows = []
    for images, position in ((known, 0), (unknown, 0), (unknown, 1)):
        image = some(images, 2).images([position])
        title = "a digit of a known class" if images is known else "a digit that no worker has seen"
        rows.append(Row(image[0], predictor.explain(image), predictor.predict(image)[0], title))
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
