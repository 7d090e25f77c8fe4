"""What a round of the federation costs beyond training: with the warm trainer, and with one process per message."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fedlmd.bench.record import record
from fedlmd.client import NodeClient
from fedlmd.cluster import Cluster, free_port
from fedlmd.progress import Progress

__all__ = ["measure", "overheads"]

ROUNDS = 4
SETTINGS = f"""
labels = ["0", "1", "2", "3", "4"]
[data.partition]
kind = "iid"
workers = 2
[classifier]
steps = {ROUNDS}
[denoiser]
steps = {ROUNDS}
[calibration]
images = 20
[federation]
rounds = {ROUNDS}
"""


def measure(output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Run the same short federation twice, side by side in one go; the last item is the result as JSON has it.

    A round's overhead is its duration at the server less the training (data at hand, weights in, weights out) of the
    slowest worker.
    """
    found: dict[str, list[float]] = {"warm": [], "cold": []}
    for kind, seconds in found.items():
        for overhead in overheads(output, kind):
            seconds.append(overhead)
            yield Progress(kind, len(seconds), ROUNDS)
    # The first round is left out: there the warm trainer loads its data, as every cold round does.
    figures = {f"round_overhead_{kind}_seconds": statistics.median(of[1:]) for kind, of in found.items()}
    yield record(figures, "fedlmd bench rounds", rounds=found)


def overheads(output: Path, kind: str) -> Iterator[float]:
    """Each round's overhead in a cluster of two workers, in seconds.

    Args:
        output: folder for the cluster's home.
        kind: "warm", or "cold" for one process per message.
    """
    output.mkdir(parents=True, exist_ok=True)
    settings = output / "rounds.toml"
    settings.write_text(SETTINGS)
    home = output / kind
    shutil.rmtree(home, ignore_errors=True)
    cluster = Cluster(home, settings, (free_port(), free_port(), free_port()), cold=kind == "cold")
    try:
        cluster.start()
        for event in NodeClient(cluster.server.url).federate({}):
            if event["event"] == "round":
                slowest = max(worker["metrics"]["seconds-training"] for worker in event["workers"])
                yield round(event["seconds"] - slowest, 2)
    finally:
        cluster.stop()
