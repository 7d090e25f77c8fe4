"""``python -m fedlmd.bench.numpy_trainer NAME``: a worker's trainer without networks, which can do each thing wrongly.

What it makes of an array is ``array / 2 + round + step``: it depends on the round and on all that came before, and
stays small. A run's settings say how it behaves: ``stage`` names the folder of the gates and of the calls, and
``workers`` has a ``Manner`` for each worker that is to differ from the others.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedlmd.artifacts import Weights
from fedlmd.federation.plan import save_weights
from fedlmd.federation.trainer import serve
from fedlmd.federation.wire import TrainerClient
from fedlmd.progress import Progress, Result
from fedlmd.statistics import sums_by_class

__all__ = ["CALLS", "GATES", "SPOILT", "Manner", "law", "main"]

GATES, CALLS = "gates", "calls"


@dataclass(frozen=True)
class Manner:
    """How a worker behaves.

    Args:
        step: what it adds to every weight; tells its updates from other workers'.
        examples: on how many it says that it trained.
        seconds: how long it takes for a round.
        fault: what it does to its update, a key of ``SPOILT``; "" for nothing.
    """

    step: float = 0.0
    examples: int = 10
    seconds: float = 0.1
    fault: str = ""


def law(array: np.ndarray, number: int, step: float) -> np.ndarray:
    """What round ``number``, from 1, makes of an array at a worker with this step."""
    return (array / 2 + number + step).astype(array.dtype)


def renamed(sent: Weights, trained: Weights) -> Weights:  # noqa: ARG001 - all of SPOILT take both
    """The update under names that the model has not."""
    return {f"{name}.old": array for name, array in trained.items()}


SPOILT: dict[str, Callable[[Weights, Weights], Weights]] = {
    "": lambda _, trained: trained,
    "nan": lambda _, trained: {name: np.full_like(array, np.nan) for name, array in trained.items()},
    "inf": lambda _, trained: {name: np.full_like(array, np.inf) for name, array in trained.items()},
    "shapes": lambda _, trained: {name: array[None] for name, array in trained.items()},
    "names": renamed,
    "scale": lambda sent, trained: {name: sent[name] + 100 * (array - sent[name]) for name, array in trained.items()},
}
"""What a worker's update becomes, from the weights that it was sent and those that it should answer with."""


@dataclass(frozen=True)
class NumpyTrainer:
    """A handler for ``fedlmd.federation.trainer.serve``.

    Args:
        name: the worker's.
        folder: where it keeps the releases that it is given.
    """

    name: str
    folder: Path

    def handle(self, action: str, config: Mapping[str, Any], weights: Weights) -> Iterator[Progress | Result]:
        """Do what the server asks, once the gate for it is open."""
        stage = Path(config["settings"]["stage"])
        if action == "train":
            with (stage / CALLS / self.name).open("a") as calls:
                calls.write(f"{config['run']} {config['round']}\n")
        yield from self.wait(action, stage / GATES / str(config.get("round", action)))
        if action == "train":
            yield from self.train(config, weights)
        elif action == "sums":
            yield Result(weights=sums_by_class(np.array([[1.0], [3.0]]), np.array([0, 0]), 2))
        elif action == "moments":
            # What all workers' sums came to travels beside the weights.
            yield Result({"lmd": {"count": 10, "mean": float(weights["gaussians.counts"][0]), "std": 2.0}})
        elif action == "thresholds":
            count = config["moments"]["lmd"]["count"]
            yield Result({"lmd": {"count": 10, "values": [float(count + level) for level in range(101)]}})
        elif action == "install":
            save_weights(self.folder / f"{config['release']}.safetensors", weights)
            yield Result()

    def wait(self, action: str, gate: Path) -> Iterator[Progress]:
        """Hold until there is no such file."""
        yield Progress(action, 0, 1)
        while gate.exists():
            time.sleep(0.05)
            yield Progress(action, 0, 1)

    def train(self, config: Mapping[str, Any], weights: Weights) -> Iterator[Progress | Result]:
        """One round."""
        number, manner = config["round"], Manner(**config["settings"]["workers"].get(self.name, {}))
        end = time.monotonic() + manner.seconds
        while time.monotonic() < end:
            yield Progress("train", 0, 1)
            time.sleep(0.05)
        trained = {name: law(array, number, manner.step) for name, array in weights.items()}
        figures = {
            "num-examples": manner.examples,
            "accuracy": number / 10,
            "seen": float(weights["classifier.w"][0, 0]),
        }
        yield Result(figures, SPOILT[manner.fault](weights, trained))


def main(name: str) -> None:
    """Serve until the process is ended; the environment names the socket and its key."""
    line = TrainerClient.from_environment(os.environ)
    serve(NumpyTrainer(name, line.socket_path.parent).handle, line.socket_path, line.authkey)


if __name__ == "__main__":
    main(sys.argv[1])
