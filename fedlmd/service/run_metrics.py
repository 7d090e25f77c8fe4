"""What a server tells Prometheus of its federated runs: how the newest stands, and each worker's last round."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fedlmd.service.contract import Runs, RunState

__all__ = ["Figure", "gauge", "one_of", "run_families"]


@dataclass(frozen=True)
class Figure:
    """A gauge of each worker.

    Args:
        name: as Prometheus knows it.
        told: what it is, in one sentence.
        keys: the worker's metrics that it shows, by the value of ``label``; one without a label has the value "".
        label: what tells the keys apart beside the worker's name; None where there is one key.
    """

    name: str
    told: str
    keys: Mapping[str, str]
    label: str | None = None

    def family(self, workers: Sequence[Mapping[str, Any]]) -> GaugeMetricFamily:
        """The gauge of the workers of a round; what a worker did not tell is left out."""
        labels = ["worker", *([self.label] if self.label else [])]
        family = GaugeMetricFamily(self.name, self.told, labels=labels)
        for worker in workers:
            for value, key in self.keys.items():
                if isinstance(worker["metrics"].get(key), int | float):
                    of = [worker["name"], value] if self.label else [worker["name"]]
                    family.add_metric(of, worker["metrics"][key])
        return family


PARTS = ("classifier", "denoiser")

WORKERS = (
    Figure("fedlmd_worker_accuracy", "Accuracy of the global weights on its images, in [0, 1].", {"": "accuracy"}),
    Figure("fedlmd_worker_evaluation_loss", "Cross-entropy of the same in nats.", {"": "evaluation-loss"}),
    Figure("fedlmd_worker_images", "Images that it trains on.", {"": "num-examples"}),
    Figure("fedlmd_worker_loss", "Loss at the end of its training.", {of: f"{of}-loss" for of in PARTS}, "network"),
    Figure(
        "fedlmd_worker_update_norm",
        "L2 norm of how far its training moved the weights.",
        {of: f"{of}-norm" for of in PARTS},
        "network",
    ),
    Figure(
        "fedlmd_worker_bytes",
        "Bytes of the message to it and of its reply.",
        {of: f"bytes-{of}" for of in ("down", "up")},
        "way",
    ),
    Figure(
        "fedlmd_worker_seconds",
        "Seconds of the round: images loaded, trained, weights under way, waited for slower workers.",
        {of: f"seconds-{of}" for of in ("loading", "training", "transfer", "waiting")},
        "part",
    ),
)


def run_families(runs: Runs) -> Iterator[Metric]:
    """The figures of a server's runs; of the newest one what its diary tells."""
    listed = runs.list()
    states = Tally(run.state for run in listed)
    family = GaugeMetricFamily("fedlmd_runs", "Federated runs of the server.", labels=["state"])
    for state in get_args(RunState):
        family.add_metric([state], states[state])
    yield family
    if not listed:
        return
    newest = listed[0]
    yield one_of("fedlmd_run_state", "Of the newest run.", get_args(RunState), newest.state)
    yield gauge("fedlmd_run_round", "Rounds of the newest run that are done.", newest.round)
    yield gauge("fedlmd_run_rounds", "Rounds of the newest run in all.", newest.rounds)
    diary = runs.diary(newest.id)
    refused = sum(event["event"] == "refused" for event in diary)
    yield CounterMetricFamily("fedlmd_updates_refused", "Updates refused in the newest run.", value=refused)
    rounds = [event for event in diary if event["event"] == "round"]
    if rounds:
        yield from round_families(rounds[-1])


def round_families(event: Mapping[str, Any]) -> Iterator[Metric]:
    """The figures of a round, from its event."""
    yield gauge("fedlmd_round_asked", "Workers asked in the last round.", event["asked"])
    yield gauge("fedlmd_round_workers", "Workers whose updates the last round took.", len(event["workers"]))
    yield gauge("fedlmd_round_aggregated", "Whether the last round changed the weights.", float(event["aggregated"]))
    yield gauge("fedlmd_round_seconds", "Seconds of the last round.", event["seconds"])
    for figure in WORKERS:
        yield figure.family(event["workers"])


def gauge(name: str, told: str, value: float | Mapping[str, str]) -> GaugeMetricFamily:
    """A single value; or, of a mapping, the value 1 with labels that tell what is the case."""
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(name, told, value=value)
    family = GaugeMetricFamily(name, told, labels=list(value))
    family.add_metric(list(value.values()), 1)
    return family


def one_of(name: str, told: str, states: Sequence[str], state: str) -> GaugeMetricFamily:
    """A gauge for each state: 1 for the one that is the case, 0 for the others."""
    family = GaugeMetricFamily(name, told, labels=["state"])
    for each in states:
        family.add_metric([each], float(each == state))
    return family
