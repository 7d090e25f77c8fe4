"""How many minutes of training the demo needs: what a release made after each of its rounds would reach."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fedlmd import settings as settings_module
from fedlmd.answer import Answerer
from fedlmd.artifacts import Release, Weights, half
from fedlmd.bench.record import record
from fedlmd.client import NodeClient
from fedlmd.cluster import Cluster, free_port
from fedlmd.data import label_names, load
from fedlmd.evaluation import Report, examine
from fedlmd.federation.checkpoints import load_checkpoint
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import MOMENTS, SUMS, THRESHOLDS, Reply
from fedlmd.federation.plan import PlanError, read_plan
from fedlmd.federation.release import finish_release, pool_moments
from fedlmd.learner import Learner
from fedlmd.progress import Progress, Result
from fedlmd.settings import Settings, to_mapping
from fedlmd.site import Site
from fedlmd.statistics import added, gaussians

__all__ = ["TARGETS", "MinutesBench", "measure"]

TARGETS = {"auroc": 0.98, "auroc_lmd": 0.9}
"""What the verdict, and LMD alone, have to reach on the digits that no site has seen."""

COMMAND = "fedlmd bench demo"

Steps = Generator[Progress, None, Any]


@dataclass(frozen=True)
class MinutesBench:
    """What is measured.

    Args:
        settings: the TOML file of the demo's run; the source of its images is MNIST, of which it knows some digits.
        images: at most so many test images of known and of unknown digits are scored.
    """

    settings: Path
    images: int = 600


def measure(config: MinutesBench, output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Run the demo's federation once, then calibrate and judge the weights of each round; last the result for JSON.

    Only the run itself counts as training; what comes after it changes nothing of it.

    Args:
        config: what to measure.
        output: a finished run of the same settings in it is used, and so is what was found of its rounds.

    Raises:
        ClusterError, NodeError: when a node does not start, or the run does not end well.
    """
    settings = settings_module.read(config.settings)
    run = finished(output / "nodes", settings)
    if run is None:
        run = yield from federate(config.settings, settings, output / "nodes")
    learners = [
        Learner(Site(f"client{worker + 1}", settings.data, worker)) for worker in range(settings.data.partition.workers)
    ]
    events = rounds_of(run)
    rows = []
    for number, event in events.items():
        file = output / "rounds" / f"{run.name}-{number:03d}-{config.images}.json"
        if not file.exists():
            found = yield from judged(run, event, learners, config.images)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        rows.append({"round": number, "minutes": minutes_to(events, number), **json.loads(file.read_text("utf-8"))})
    sample = [] if config.images == MinutesBench.images else [f"--images {config.images}"]
    yield record(figures_of(rows), " ".join([COMMAND, *sample]), rounds=rows, targets=TARGETS, run=run.name)


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


def federate(file: Path, settings: Settings, home: Path) -> Steps:
    """Run the federation in a cluster of real processes; gives the run's folder."""
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
    first, last = (datetime.fromisoformat(events[of]["time"]) for of in (min(events), number))
    seconds = (last - first).total_seconds() + float(events[min(events)]["seconds"])
    return round(seconds / 60, 3)


def judged(run: Path, event: Mapping[str, Any], learners: Sequence[Learner], images: int) -> Steps:
    """What a release of a round's weights reaches on the test digits."""
    release: Release = yield from release_after(run, event, learners)
    answerer = Answerer(release)
    labels = answerer.settings.labels
    known = load("mnist", "eval", labels=labels)
    unknown = load("mnist", "eval", labels=[name for name in label_names("mnist", "eval") if name not in labels])
    for step in examine(answerer, known, unknown, most=images):
        if isinstance(step, Report):
            return row_of(step)
        yield Progress(f"judging round {event['round']}", step.done, step.total)
    raise RuntimeError("the evaluation ended without a report")


def release_after(run: Path, event: Mapping[str, Any], learners: Sequence[Learner]) -> Steps:
    """The release that the run would have made after a round, calibrated by the same sites on the same images."""
    plan, initial = read_plan(run)
    weights = half(load_checkpoint(run, event, initial).weights)
    sums = yield from asked(learners, SUMS, {"settings": plan.settings}, weights, event["round"])
    weights |= gaussians(added([reply.weights for reply in sums]))
    moments = yield from asked(learners, MOMENTS, {"settings": plan.settings}, weights, event["round"])
    pooled = pool_moments([reply.metrics for reply in moments])
    config = {"settings": plan.settings, "moments": pooled}
    thresholds = yield from asked(learners, THRESHOLDS, config, weights, event["round"])
    card = finish_release(plan, weights, event, {MOMENTS: moments, THRESHOLDS: thresholds})
    return Release(f"after round {event['round']}", json.loads(json.dumps(card)), weights)


def asked(
    learners: Sequence[Learner], action: str, config: Mapping[str, Any], weights: Weights, number: int
) -> Generator[Progress, None, list[Reply]]:
    """The replies of all sites, as the server would have them."""
    replies = []
    for learner in learners:
        for step in learner.handle(action, config, weights):
            if isinstance(step, Result):
                replies.append(Reply(learner.site.name, step.metrics, step.weights))
            else:
                yield Progress(f"calibrating round {number}", step.done, step.total)
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
