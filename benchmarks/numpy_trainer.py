"""``python -m benchmarks.numpy_trainer NAME``: a worker's trainer without networks, into which faults are injected.

Training turns an array into ``array / 2 + round + step``: that depends on the round and on all earlier ones, and stays
small. A run's settings say how it behaves: ``cluster`` names the folder with the gates and the calls, and ``workers``
holds the fields of a ``WorkerBehaviour`` for each worker that differs from the default.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedlmd.calibration import LEVELS, sums_by_class
from fedlmd.federation import actions
from fedlmd.federation.plan import save_weights
from fedlmd.federation.trainer.client import TrainerClient
from fedlmd.federation.trainer.server import serve
from fedlmd.progress import Progress, Result, Work
from fedlmd.release import Weights

GATES, CALLS = "gates", "calls"

IMAGES = 30
"""Calibration images of each worker."""


@dataclass(frozen=True)
class WorkerBehaviour:
    """How a worker behaves.

    Args:
        step: is added to every weight; differs between workers, so that their updates do.
        examples: reported number of training examples.
        seconds: duration of a round.
        fault: injected into its update, a key of ``FAULTY_UPDATES``; "" for none.
    """

    step: float = 0.0
    examples: int = 10
    seconds: float = 0.1
    fault: str = ""


def trained_array(array: np.ndarray, number: int, step: float) -> np.ndarray:
    """An array after round ``number``, from 1, at a worker with this step."""
    return (array / 2 + number + step).astype(array.dtype)


def renamed(sent: Weights, trained: Weights) -> Weights:  # noqa: ARG001 - all of FAULTY_UPDATES take both
    """The update under names that the model lacks."""
    return {f"{name}.old": array for name, array in trained.items()}


FAULTY_UPDATES: dict[str, Callable[[Weights, Weights], Weights]] = {
    "": lambda _, trained: trained,
    "nan": lambda _, trained: {name: np.full_like(array, np.nan) for name, array in trained.items()},
    "inf": lambda _, trained: {name: np.full_like(array, np.inf) for name, array in trained.items()},
    "shapes": lambda _, trained: {name: array[None] for name, array in trained.items()},
    "names": renamed,
    "scale": lambda sent, trained: {name: sent[name] + 100 * (array - sent[name]) for name, array in trained.items()},
}
"""A worker's faulty update, from the weights that it was sent and its correct update; by the fault's name."""


@dataclass(frozen=True)
class NumpyTrainer:
    """A handler for ``fedlmd.federation.trainer.server.serve``.

    Args:
        name: the worker's.
        folder: where it stores the releases that it is sent.
    """

    name: str
    folder: Path

    def handle(self, action: str, config: Mapping[str, Any], weights: Weights) -> Work:
        """Do what the server asks for, once the gate for it is open."""
        cluster = Path(config["settings"]["cluster"])
        if action == actions.TRAIN:
            with (cluster / CALLS / self.name).open("a") as calls:
                calls.write(f"{config['run']} {config['round']}\n")
        yield from self.wait(action, cluster / GATES / str(config.get("round", action)))
        if action == actions.TRAIN:
            return (yield from self.train(config, weights))
        if action == actions.SUMS:
            return Result(weights=sums_by_class(np.array([[1.0], [3.0]]), np.array([0, 0]), 2))
        if action == actions.MOMENTS:
            # The mean depends on the sums of all workers, which travel as weights.
            return Result({"lmd": {"count": IMAGES, "mean": float(weights["gaussians.counts"][0]), "std": 2.0}})
        if action == actions.THRESHOLDS:
            count = config["moments"]["lmd"]["count"]
            values = [float(count + number) for number in range(len(LEVELS))]
            return Result({"lmd": {"count": IMAGES, "values": values}})
        if action == actions.INSTALL:
            save_weights(self.folder / f"{config['release']}.safetensors", weights)
            return Result()
        raise ValueError(f"unknown action {action!r}")

    def wait(self, action: str, gate: Path) -> Generator[Progress, None, None]:
        """Wait until the gate's file is removed."""
        yield Progress(action, 0, 1)
        while gate.exists():
            time.sleep(0.05)
            yield Progress(action, 0, 1)

    def train(self, config: Mapping[str, Any], weights: Weights) -> Work:
        """One round."""
        number, behaviour = config["round"], WorkerBehaviour(**config["settings"]["workers"].get(self.name, {}))
        end = time.monotonic() + behaviour.seconds
        while time.monotonic() < end:
            yield Progress("train", 0, 1)
            time.sleep(0.05)
        trained = {name: trained_array(array, number, behaviour.step) for name, array in weights.items()}
        metrics = {
            "num-examples": behaviour.examples,
            "accuracy": number / 10,
            "seen": float(weights["classifier.w"][0, 0]),
        }
        return Result(metrics, FAULTY_UPDATES[behaviour.fault](weights, trained))


def main(name: str) -> None:
    """Serve until the process is ended; the environment names the socket and its key."""
    client = TrainerClient.from_environment(os.environ)
    serve(NumpyTrainer(name, client.socket_path.parent).handle, client.socket_path, client.authkey)


if __name__ == "__main__":
    main(sys.argv[1])
