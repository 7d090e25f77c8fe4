"""Flower's own quickstart with numpy, run by Flower's own strategy on the same processes: seconds of its rounds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from fedlmd.federation.flower.engine import ServerEngine
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.worker_engine import WorkerEngine
from fedlmd.node.cluster import free_port

ROUNDS = 4
WORKERS = 2
# Seconds after which a run counts as failed.
LONGEST = 300.0

PROJECT = """
[project]
name = "quickstart-numpy"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "quickstart"
[tool.flwr.app.components]
serverapp = "quickstart.app:server"
clientapp = "quickstart.app:client"
[tool.flwr.app.config]
run-dir = ""
"""

APP = '''
"""Flower's quickstart with numpy: the model is a list of one array, training waits for nothing."""
import json, time
import numpy as np
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

client = ClientApp()
server = ServerApp()


@client.train()
def train(message, context):
    model = [array + np.random.rand(*array.shape) for array in message.content["arrays"].to_numpy_ndarrays()]
    metrics = MetricRecord({"random_metric": float(np.random.rand()), "num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(model), "metrics": metrics}), reply_to=message)


@client.evaluate()
def evaluate(message, context):
    metrics = MetricRecord({"random_metric": float(np.random.rand()), "num-examples": 1})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


@server.main()
def main(grid, context):
    def note(number, arrays):
        with open(context.run_config["run-dir"] + "/rounds.jsonl", "a") as file:
            file.write(json.dumps([number, time.monotonic()]) + "\\n")

    strategy = FedAvg(fraction_evaluate=FRACTION, min_available_nodes=WORKERS)
    strategy.start(grid, ArrayRecord([np.zeros((10, 10))]), num_rounds=ROUNDS, evaluate_fn=note)
'''


def seconds_of_rounds(output: Path, *, evaluating: bool) -> Iterator[float]:
    """Seconds of each round of the quickstart, one after the other.

    Flower's processes are started as those of our cluster, with the same short polling intervals where Flower lets them
    be set; strategy, grid and the process per message are Flower's.

    Args:
        output: folder for the processes' homes.
        evaluating: whether workers evaluate after each training, as in the quickstart; ours evaluate while they train.

    Raises:
        EngineError: when the run does not end.
    """
    shutil.rmtree(output, ignore_errors=True)
    run_dir = output.absolute() / "run"
    run_dir.mkdir(parents=True)
    app = written(output.absolute() / "app", 1.0 if evaluating else 0.0)
    server = ServerEngine(output / "server", "127.0.0.1", free_port())
    workers = [
        WorkerEngine(output / f"worker-{number}", f"worker-{number}", f"127.0.0.1:{server.port}", free_port(), {})
        for number in range(WORKERS)
    ]
    try:
        server.start()
        for worker in workers:
            worker.start()
        server.submit(run_dir, app)
        yield from followed(run_dir / "rounds.jsonl")
    finally:
        for worker in workers:
            worker.stop()
        server.stop()


def written(folder: Path, fraction: float) -> Path:
    """The app's folder, with its files."""
    (folder / "quickstart").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "quickstart" / "__init__.py").write_text("", encoding="utf-8")
    settings = {"FRACTION": fraction, "WORKERS": WORKERS, "ROUNDS": ROUNDS}
    head = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (folder / "quickstart" / "app.py").write_text(head + APP, encoding="utf-8")
    return folder


def followed(notes: Path) -> Iterator[float]:
    """Seconds between the notes that the app writes at the start and after each round."""
    deadline, yielded = time.monotonic() + LONGEST, 0
    while yielded < ROUNDS:
        if time.monotonic() > deadline:
            raise EngineError(f"Flower's quickstart did not end within {LONGEST:g} seconds")
        lines = notes.read_text().splitlines() if notes.exists() else []
        times = [json.loads(line)[1] for line in lines]
        fresh = [later - earlier for earlier, later in pairwise(times)][yielded:]
        yield from fresh
        yielded += len(fresh)
        time.sleep(0.2)
