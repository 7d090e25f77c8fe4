"""Minutes of training until the demo reaches its AUROC: what a release made after each of its rounds would reach."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.record import record
from benchmarks.storage import Steps, prefixed, stored
from fedlmd import settings as settings_module
from fedlmd.calibration import added, gaussians, pool_moments
from fedlmd.data import label_names, load
from fedlmd.federation.actions import MOMENTS, SUMS, THRESHOLDS
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import PlanError, read_plan
from fedlmd.federation.server.card import finish_release
from fedlmd.federation.server.checkpoints import load_checkpoint
from fedlmd.inference import Predictor, Report, examine
from fedlmd.node.cluster import Cluster, free_port
from fedlmd.progress import Progress
from fedlmd.release import Release, Weights, half
from fedlmd.service.client import NodeClient
from fedlmd.settings import Settings, to_mapping
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker

TARGETS = {"auroc": 0.98, "auroc_lmd": 0.9}
"""What the verdict, and LMD alone, have to reach on the digits that no worker has images of."""

COMMAND = "python -m benchmarks demo"


@dataclass(frozen=True)
class TimeToAurocBench:
    """What is measured.

    Args:
        settings: the TOML file of the demo's run; the source of its images is MNIST, of which it knows some digits.
        images: at most so many test images of known and of unknown digits are scored.
    """

    settings: Path
    images: int = 600


def measure(config: TimeToAurocBench, output: Path) -> Steps:
    """Run the demo's federation once, then calibrate and evaluate the weights of each round; returns the result.

    Only the run itself counts as training; what comes after it changes nothing of it.

    Args:
        config: what to measure.
        output: a finished run of the same settings in it is used, and so are the figures of its rounds.

    Raises:
        ClusterError, NodeError: when a node does not start, or the run does not end well.
    """
    settings = settings_module.read(config.settings)
    run = finished(output / "nodes", settings)
    if run is None:
        run = yield from federate(config.settings, settings, output / "nodes")
    workers = [
        Worker(WorkerConfig(f"client{number + 1}", settings.data, number))
        for number in range(settings.data.partition.workers)
    ]
    events, rows = rounds_of(run), []
    for number, event in events.items():
        file = output / "rounds" / f"{run.name}-{number:03d}-{config.images}.json"
        figures = yield from stored(file, partial(evaluated, run, event, workers, config.images))
        rows.append({"round": number, "minutes": minutes_to(events, number), **figures})
    sample = [] if config.images == TimeToAurocBench.images else [f"--images {config.images}"]
    return record(figures_of(rows), " ".join([COMMAND, *sample]), rounds=rows, targets=TARGETS, run=run.name)


def finished(home: Path, settings: Settings) -> Path | None:
    """The folder of a finished run of the same settings; None where there is none."""
    wanted = to_mapping(settings)
    del wanted["data"]  # no part of a plan
    for folder in sorted((home / "server" / "runs").glob("*"), reverse=True):
        ended = EventLog(folder).final()
        try:
            if ended is not None and ended["event"] == "finished" and read_plan(folder)[0].settings == wanted:
                return folder
        except PlanError:
            continue
    return None


def federate(file: Path, settings: Settings, home: Path) -> Generator[Progress, None, Path]:
    """Run the federation in a cluster of real processes; returns the run's folder."""
    shutil.rmtree(home, ignore_errors=True)
    workers, rounds = settings.data.partition.workers, settings.federation.rounds
    cluster = Cluster(home, file, tuple(free_port() for _ in range(1 + workers)))
    try:
        cluster.start()
        client = NodeClient(cluster.server.url, timeout=300.0)
        yield Progress("federation", 0, rounds)
        run = ""
        for event in client.federate({}):
            run = event.get("run", run)
            if event["event"] == "round":
                yield Progress("federation", event["round"], rounds, {"accuracy": event["metrics"].get("accuracy", 0)})
    finally:
        cluster.stop()
    return home / "server" / "runs" / run


def rounds_of(run: Path) -> dict[int, dict[str, Any]]:
    """The events of the rounds that changed the weights, by number."""
    events = (event for event in EventLog(run).read() if event["event"] == "round" and event["aggregated"])
    return {event["round"]: event for event in events}


def minutes_to(events: Mapping[int, Mapping[str, Any]], number: int) -> float:
    """Minutes from the start of the first round to the end of another."""
    first = events[min(events)]
    duration = datetime.fromisoformat(events[number]["time"]) - datetime.fromisoformat(first["time"])
    return round((duration.total_seconds() + float(first["seconds"])) / 60, 3)


def evaluated(run: Path, event: Mapping[str, Any], workers: Sequence[Worker], images: int) -> Steps:
    """The figures of a release of a round's weights on the test digits."""
    stage = f"round {event['round']}"
    predictor = Predictor((yield from prefixed(stage, release_after(run, event, workers))))
    labels = predictor.settings.labels
    known = load("mnist", "eval", labels=labels)
    unknown = load("mnist", "eval", labels=[name for name in label_names("mnist", "eval") if name not in labels])
    return row_of((yield from prefixed(stage, examine(predictor, known, unknown, most=images))))


def release_after(run: Path, event: Mapping[str, Any], workers: Sequence[Worker]) -> Generator[Progress, None, Release]:
    """The release that the run would have made after a round, calibrated by the same workers on the same images."""
    plan, initial = read_plan(run)
    config: dict[str, Any] = {"settings": plan.settings}
    weights = half(load_checkpoint(run, event, initial).weights)
    sums = yield from replies_of(workers, SUMS, config, weights)
    weights |= gaussians(added([reply.weights for reply in sums]))
    moments = yield from replies_of(workers, MOMENTS, config, weights)
    config |= {"moments": pool_moments([reply.metrics for reply in moments])}
    thresholds = yield from replies_of(workers, THRESHOLDS, config, weights)
    card = finish_release(plan, weights, event, {MOMENTS: moments, THRESHOLDS: thresholds})
    return Release(f"after round {event['round']}", json.loads(json.dumps(card)), weights)


def replies_of(
    workers: Sequence[Worker], action: str, config: Mapping[str, Any], weights: Weights
) -> Generator[Progress, None, list[Reply]]:
    """The replies of all workers, as the server would have them."""
    replies = []
    for worker in workers:
        result = yield from worker.handle(action, config, weights)
        replies.append(Reply(worker.config.name, result.metrics, result.weights))
    return replies


def row_of(report: Report) -> dict[str, Any]:
    """A round's figures."""
    names = {"auroc": "verdict", "auroc_lmd": "lmd", "auroc_mahalanobis": "mahalanobis", "auroc_one_step": "one-step"}
    return {
        "accuracy": round(report.classification.accuracy, 4),
        **{key: round(report.separations[name].auroc, 4) for key, name in names.items()},
        "false_alarm_rate": round(report.false_alarm_rate, 4),
    }


def figures_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures: None for the minutes where no round reached both targets."""
    good = [row for row in rows if all(row[name] >= least for name, least in TARGETS.items())]
    return {
        "train_minutes_demo": good[0]["minutes"] if good else None,
        "train_rounds_demo": good[0]["round"] if good else None,
        "train_minutes_demo_in_all": rows[-1]["minutes"],
        **{f"{name}_best": max(row[name] for row in rows) for name in TARGETS},
    }
