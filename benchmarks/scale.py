"""How far the federation scales: the server's memory, a round of a thousand simulated workers, a round's overhead."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from benchmarks import quickstart, rounds
from benchmarks.record import record
from benchmarks.storage import Steps, load_json, stored
from fedlmd.progress import Progress
from fedlmd.settings import from_mapping
from fedlmd.simulation.launch import SimulationError, simulate

WORKERS = (10, 100, 1000)
# Strategies whose server is measured, and up to how many workers: those that hold all updates would need many GB.
SERVERS = {"fedavg": 1000, "fedadam": 1000, "flower": 1000, "median": 100}

SIMULATED = {
    "data": {"partition": {"kind": "iid"}},
    "classifier": {"steps": 1, "batch_size": 8, "warmup": 0},
    "denoiser": {"steps": 1, "batch_size": 8, "warmup": 0},
    "federation": {"rounds": 1},
}
"""One step of eight images for each network of the usual size, so that what is measured is not the training."""


@dataclass(frozen=True)
class ScaleBench:
    """What is measured and where.

    Args:
        output: folder for the result of each part, which is used when it is there, and for homes.
        simulated: workers of the simulated round.
        actors: of them that run at the same time.
        parts: which parts are measured; what others measured before stays in the result.
    """

    output: Path
    simulated: int = 1000
    actors: int = 1
    parts: tuple[str, ...] = ("memory", "simulation", "overhead")


def measure(config: ScaleBench) -> Steps:
    """Measure part by part; returns the result as JSON has it. When stopped, a later call continues."""
    measured: dict[str, Any] = {}
    for name, part in PARTS.items():
        file = config.output / f"{name}.json"
        if name in config.parts:
            measured[name] = yield from stored(file, partial(part, config))
        elif file.exists():
            measured[name] = load_json(file)
    return record(figures_of(measured), "python -m benchmarks scale", **measured)


def memory(config: ScaleBench) -> Steps:  # noqa: ARG001 - every part has this form
    """The server's side of one round in a process of its own, for each strategy and number of workers.

    ``rss_mib`` is the most memory that the process ever had, with all libraries; ``allocated_mib`` is the most that
    Python and numpy held at one time during the round, in another process of its own.
    """
    cases = [(name, count) for name, most in SERVERS.items() for count in WORKERS if count <= most]
    result: dict[str, list[dict[str, float]]] = {}
    for done, (name, count) in enumerate(cases):
        yield Progress("memory", done, len(cases))
        both = {**round_memory(name, count, "rss"), **round_memory(name, count, "allocated")}
        result.setdefault(name, []).append({key: round(value, 2) for key, value in both.items()})
    return result


def round_memory(strategy: str, workers: int, kind: str) -> dict[str, float]:
    """The memory of a round, measured by a new process."""
    command = [sys.executable, "-m", "benchmarks.server_memory", strategy, str(workers), kind]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return figures


def simulation(config: ScaleBench) -> Steps:
    """One round of many simulated workers that each train the whole model, and the most memory of its process.

    The round only, without calibration and release.
    """
    settings = from_mapping(SIMULATED)
    yield Progress("simulation", 0, 1)
    for event in simulate(settings, config.simulated, config.output / "simulation", actors=config.actors):
        if event["event"] == "round":
            return {
                "workers": config.simulated,
                "averaged": len(event["workers"]),
                "actors": config.actors,
                "seconds": event["seconds"],
                "seconds_training": round(sum(worker["metrics"]["seconds-training"] for worker in event["workers"]), 1),
                "rss_mib": server_rss(),
            }
        if event["event"] == "failed":
            raise SimulationError(f"the simulated run failed: {event['reason']}")
    raise SimulationError("the simulated run ended without a round")


def server_rss() -> float:
    """The most memory, in MiB, that the simulation's process has had, in which the server's app runs as a thread."""
    for process in psutil.Process().children(recursive=True):
        if "fedlmd.simulation.program" in process.cmdline():
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    raise RuntimeError("the simulation's process is not there")


def overhead(config: ScaleBench) -> Steps:
    """Seconds of a round beyond training: ours with two workers, and those of Flower's quickstart."""
    result: dict[str, list[float]] = {"ours": [], "quickstart": [], "quickstart_train_only": []}
    sources: dict[str, Callable[[], Iterator[float]]] = {
        "ours": lambda: rounds.overheads(config.output / "rounds"),
        "quickstart": lambda: quickstart.seconds_of_rounds(config.output / "quickstart", evaluating=True),
        "quickstart_train_only": lambda: quickstart.seconds_of_rounds(config.output / "train-only", evaluating=False),
    }
    for name, source in sources.items():
        for seconds in source():
            result[name].append(round(seconds, 2))
            yield Progress(name, len(result[name]), quickstart.ROUNDS)
    return result


PARTS: dict[str, Callable[[ScaleBench], Steps]] = {"memory": memory, "simulation": simulation, "overhead": overhead}
"""What is measured, by name."""


def figures_of(measured: Mapping[str, Any]) -> dict[str, float]:
    """The figures of the parts that were measured."""
    figures: dict[str, float] = {}
    for strategy, rows in measured.get("memory", {}).items():
        by_count = {int(row["workers"]): row for row in rows}
        if WORKERS[-1] in by_count:
            name = "memory_ratio_1000_over_10" if strategy == "fedavg" else f"memory_ratio_1000_over_10_{strategy}"
            for key, suffix in (("rss_mib", ""), ("allocated_mib", "_allocated")):
                figures[name + suffix] = round(by_count[WORKERS[-1]][key] / by_count[WORKERS[0]][key], 3)
    if "simulation" in measured:
        figures[f"seconds_{measured['simulation']['workers']}_workers_round"] = measured["simulation"]["seconds"]
    # The first round is left out, as it holds the start of the processes.
    names = {
        "ours": "round_overhead_seconds",
        "quickstart": "round_overhead_flower_quickstart_seconds",
        "quickstart_train_only": "round_overhead_flower_quickstart_train_only_seconds",
    }
    for key, seconds in measured.get("overhead", {}).items():
        figures[names[key]] = round(statistics.median(seconds[1:]), 2)
    return figures
