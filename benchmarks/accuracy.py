"""How well the classifier learns when two workers share all ten digits: accuracy of the federation's release."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from benchmarks.record import record
from benchmarks.storage import Steps
from fedlmd.node.cluster import Cluster, free_port
from fedlmd.progress import Progress
from fedlmd.service.client import NodeClient

ROUNDS = 5
SETTINGS = f"""
[data.partition]
kind = "iid"
workers = 2
[classifier]
steps = 1200
ema = 0.95
[denoiser]
steps = 0
[calibration]
images = 20
[federation]
rounds = {ROUNDS}
"""


def measure(output: Path) -> Steps:
    """Train the classifier alone over real processes; returns the result as JSON has it.

    The accuracy is that of the release on all 10,000 test images of MNIST, which are divided among the workers.
    """
    home = output / "accuracy"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    settings = home / "run.toml"
    settings.write_text(SETTINGS)
    cluster = Cluster(home, settings, (free_port(), free_port(), free_port()))
    seconds: list[float] = []
    metrics: dict[str, Any] = {}
    try:
        cluster.start()
        client = NodeClient(cluster.server.url, timeout=300.0)
        for event in client.federate({}):
            if event["event"] == "round":
                seconds.append(event["seconds"])
                yield Progress("rounds", event["round"], ROUNDS, {"accuracy": event["metrics"]["accuracy"]})
            elif event["event"] == "finished":
                metrics = event["metrics"]
    finally:
        cluster.stop()
    figures = {"accuracy_iid_ten_digits": metrics["accuracy"], "seconds_of_rounds": round(sum(seconds), 1)}
    return record(figures, "python -m benchmarks accuracy", images=metrics["images"], workers=metrics["workers"])
