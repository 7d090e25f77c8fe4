"""What a round of the federation costs beyond training: a short run in a cluster of two workers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from fedlmd.node.cluster import Cluster, free_port
from fedlmd.service.client import NodeClient

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


def overheads(output: Path) -> Iterator[float]:
    """Each round's overhead in seconds.

    That is its duration at the server less the training (data loaded, weights in, weights out) of the slowest worker.
    The first round includes that the trainers load their data.

    Args:
        output: folder for the settings and the cluster's home.
    """
    output.mkdir(parents=True, exist_ok=True)
    settings, home = output / "rounds.toml", output / "nodes"
    settings.write_text(SETTINGS)
    shutil.rmtree(home, ignore_errors=True)
    cluster = Cluster(home, settings, (free_port(), free_port(), free_port()))
    try:
        cluster.start()
        for event in NodeClient(cluster.server.url).federate({}):
            if event["event"] == "round":
                slowest = max(worker["metrics"]["seconds-training"] for worker in event["workers"])
                yield event["seconds"] - slowest
    finally:
        cluster.stop()
