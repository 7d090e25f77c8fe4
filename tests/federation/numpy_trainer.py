"""A trainer process for the tests: ``numpy_trainer.py SOCKET KEY MODE``; MODE is "good" or "nan".

A round waits while the folder ``gates`` of the settings holds a file of its number. What it makes of an array depends
on the round and on what came before: ``array * round + 1``.
"""

import sys
import time
from pathlib import Path

import numpy as np

from fedlmd.federation.trainer import serve
from fedlmd.progress import Progress, Result
from fedlmd.statistics import sums_by_class


def main(socket_path, key, mode):
    def handler(action, config, weights):
        if action == "train":
            for step in range(600 if config["settings"]["slow"] else 1):
                yield Progress(action, step, 600)
                time.sleep(0.1)
            while (Path(config["settings"]["gates"]) / str(config["round"])).exists():
                yield Progress(action, 0, 1)
                time.sleep(0.05)
            step = np.float32(np.nan if mode == "nan" else 1)
            moved = {name: array * config["round"] + step for name, array in weights.items()}
            figures = {
                "num-examples": 10,
                "accuracy": config["round"] / 10,
                "seen": float(weights["classifier.w"][0, 0]),
            }
            yield Result(figures, moved)
        elif action == "sums":
            assert {array.dtype for array in weights.values()} == {np.dtype("float16")}
            yield Result(weights=sums_by_class(np.array([[1.0], [3.0]]), np.array([0, 0]), 2))
        elif action == "moments":
            # What all workers' sums came to travels beside the weights.
            assert weights["gaussians.counts"].tolist() == [6, 0]
            yield Result({"lmd": {"count": 10, "mean": 1.0, "std": 2.0}})
        elif action == "thresholds":
            count = config["moments"]["lmd"]["count"]
            yield Result({"lmd": {"count": 10, "values": [float(count + level) for level in range(101)]}})
        elif action == "install":
            assert config["card"]["id"] == config["release"]
            np.savez(Path(socket_path).parent / f"{config['release']}.npz", **weights)
            yield Result()

    serve(handler, Path(socket_path), bytes.fromhex(key))


if __name__ == "__main__":
    main(*sys.argv[1:])
