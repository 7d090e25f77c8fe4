"""How far the federation scales: the server's memory, a round of a thousand simulated workers, a round's overhead."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from fedlmd.bench import quickstart, rounds
from fedlmd.bench.record import record
from fedlmd.progress import Progress
from fedlmd.settings import from_mapping
from fedlmd.simulation import simulate

__all__ = ["PARTS", "ScaleBench", "measure"]

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
        output: folder for what each part measured, which is used when it is there, and for homes.
        simulated: workers of the simulated round.
        actors: of them that work at the same time.
        parts: which parts are measured; what others measured before stays in the result.
    """

    output: Path
    simulated: int = 1000
    actors: int = 1
    parts: tuple[str, ...] = ("memory", "simulation", "overhead")


Steps = Iterator[Progress | dict[str, Any]]


def measure(config: ScaleBench) -> Steps:
    """Measure part by part; the last item is the result as JSON has it. Can be stopped and goes on."""
    config.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name, part in PARTS.items():
        file = config.output / f"{name}.json"
        if not file.exists() and name in config.parts:
            for step in part(config):
                if isinstance(step, Progress):
                    yield step
                else:
                    file.write_text(json.dumps(step, indent=2) + "\n", encoding="utf-8")
        if file.exists():
            found[name] = json.loads(file.read_text(encoding="utf-8"))
    yield record(figures_of(found), "fedlmd bench scale", **found)


def memory(config: ScaleBench) -> Steps:  # noqa: ARG001 - every part has this form
    """The server's side of one round in a process of its own, for each strategy and number of workers.

    ``rss_mib`` is the most memory that the process ever had, all libraries with it; ``allocated_mib`` is the most that
    Python and numpy held at one time during the round, in a process of its own, too.
    """
    cases = [(name, count) for name, most in SERVERS.items() for count in WORKERS if count <= most]
    result: dict[str, list[dict[str, float]]] = {}
    for done, (name, count) in enumerate(cases):
        yield Progress("memory", done, len(cases))
        both = {**rehearsed(name, count, "rss"), **rehearsed(name, count, "allocated")}
        result.setdefault(name, []).append({key: round(value, 2) for key, value in both.items()})
    yield result


def rehearsed(strategy: str, workers: int, what: str) -> dict[str, float]:
    """What a fresh process says of a round's memory."""
    command = [sys.executable, "-m", "fedlmd.federation.rehearsal", strategy, str(workers), what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def simulation(config: ScaleBench) -> Steps:
    """One round of many simulated workers that each train the whole model, and the most memory of its process.

    The round only: what comes after it, calibration and release, is left out.
    """
    settings = from_mapping(SIMULATED)
    yield Progress("simulation", 0, 1)
    for event in simulate(settings, config.simulated, config.output / "simulation", actors=config.actors):
        if event["event"] == "round":
            yield {
                "workers": config.simulated,
                "averaged": len(event["workers"]),
                "actors": config.actors,
                "seconds": event["seconds"],
                "seconds_training": round(sum(of["metrics"]["seconds-training"] for of in event["workers"]), 1),
                "rss_mib": server_rss(),
            }
            return
        if event["event"] == "failed":
            raise RuntimeError(f"the simulated run failed: {event['reason']}")


def server_rss() -> float:
    """The most memory, in MiB, that the simulation's process has had, in which the server's app runs as a thread."""
    for process in psutil.Process().children(recursive=True):
        if "fedlmd.federation.simulation" in process.cmdline():
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
            return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    raise RuntimeError("the simulation's process is not there")


def overhead(config: ScaleBench) -> Steps:
    """Seconds of a round beyond training: ours with two workers and the warm trainer, and Flower's quickstart's."""
    result: dict[str, list[float]] = {"ours": [], "quickstart": [], "quickstart_train_only": []}
    sources: dict[str, Callable[[], Iterator[float]]] = {
        "ours": lambda: rounds.overheads(config.output / "rounds", "warm"),
        "quickstart": lambda: quickstart.seconds_of_rounds(config.output / "quickstart", evaluating=True),
        "quickstart_train_only": lambda: quickstart.seconds_of_rounds(config.output / "train-only", evaluating=False),
    }
    for name, source in sources.items():
        for seconds in source():
            result[name].append(round(seconds, 2))
            yield Progress(name, len(result[name]), quickstart.ROUNDS)
    yield result


PARTS: dict[str, Callable[[ScaleBench], Steps]] = {"memory": memory, "simulation": simulation, "overhead": overhead}
"""What is measured, by name."""


def figures_of(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures of the parts that were measured."""
    figures: dict[str, float] = {}
    for strategy, rows in found.get("memory", {}).items():
        by_count = {int(row["workers"]): row for row in rows}
        if WORKERS[-1] in by_count:
            name = "memory_ratio_1000_over_10" if strategy == "fedavg" else f"memory_ratio_1000_over_10_{strategy}"
            for key, suffix in (("rss_mib", ""), ("allocated_mib", "_allocated")):
                figures[name + suffix] = round(by_count[WORKERS[-1]][key] / by_count[WORKERS[0]][key], 3)
    if "simulation" in found:
        figures[f"seconds_{found['simulation']['workers']}_workers_round"] = found["simulation"]["seconds"]
    # The first round is left out, as it holds the start of the processes.
    names = {
        "ours": "round_overhead_seconds",
        "quickstart": "round_overhead_flower_quickstart_seconds",
        "quickstart_train_only": "round_overhead_flower_quickstart_train_only_seconds",
    }
    for key, seconds in found.get("overhead", {}).items():
        figures[names[key]] = round(statistics.median(seconds[1:]), 2)
    return figures
