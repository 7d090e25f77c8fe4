"""The figures of a server's federated runs for Prometheus: state of the newest, and each worker's last round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fedlmd.service.contract import Runs
from fedlmd.service.schema import RunState


class Figure(NamedTuple):
    """A gauge of each worker.

    Args:
        name: as Prometheus knows it.
        text: what it is, in one sentence.
        key: of the worker's metric that it shows; ``{}`` stands for each of ``values``.
        label: what tells the values apart beside the worker's name; None where there is one metric.
        values: of the label.
    """

    name: str
    text: str
    key: str
    label: str | None = None
    values: tuple[str, ...] = ("",)

    def family(self, workers: Sequence[Mapping[str, Any]]) -> GaugeMetricFamily:
        """The gauge of the workers of a round; what a worker did not report is left out."""
        family = GaugeMetricFamily(self.name, self.text, labels=["worker", self.label] if self.label else ["worker"])
        for worker in workers:
            for value in self.values:
                number = worker["metrics"].get(self.key.format(value))
                if isinstance(number, int | float):
                    family.add_metric([worker["name"], value] if self.label else [worker["name"]], number)
        return family


NETWORK = ("network", ("classifier", "denoiser"))

WORKERS = (
    Figure("fedlmd_worker_accuracy", "Accuracy of the global weights on its images, in [0, 1].", "accuracy"),
    Figure("fedlmd_worker_evaluation_loss", "Cross-entropy of the same in nats.", "evaluation-loss"),
    Figure("fedlmd_worker_images", "Images that it trains on.", "num-examples"),
    Figure("fedlmd_worker_loss", "Loss at the end of its training.", "{}-loss", *NETWORK),
    Figure("fedlmd_worker_update_norm", "L2 norm of how far its training moved the weights.", "{}-norm", *NETWORK),
    Figure("fedlmd_worker_bytes", "Bytes of the message to it and of its reply.", "bytes-{}", "way", ("down", "up")),
    Figure(
        "fedlmd_worker_seconds",
        "Seconds of the round: images loaded, trained, weights under way, waited for slower workers.",
        "seconds-{}",
        "part",
        ("loading", "training", "transfer", "waiting"),
    ),
)


def run_families(runs: Runs) -> Iterator[Metric]:
    """The figures of a server's runs, those of the newest from its event log."""
    listed = runs.list()
    states = [run.state for run in listed]
    counts = {state: states.count(state) for state in get_args(RunState)}
    yield gauges("fedlmd_runs", "Federated runs of the server.", "state", counts)
    if not listed:
        return
    newest = listed[0]
    yield one_of("fedlmd_run_state", "Of the newest run.", get_args(RunState), newest.state)
    yield gauge("fedlmd_run_round", "Rounds of the newest run that are done.", newest.round)
    yield gauge("fedlmd_run_rounds", "Rounds of the newest run in all.", newest.rounds)
    events = runs.event_log(newest.id)
    refused = sum(event["event"] == "refused" for event in events)
    yield CounterMetricFamily("fedlmd_updates_refused", "Updates refused in the newest run.", value=refused)
    rounds = [event for event in events if event["event"] == "round"]
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


def gauge(name: str, text: str, value: float | Mapping[str, str]) -> GaugeMetricFamily:
    """A single value; for a mapping, the value 1 with the mapping as labels."""
    if not isinstance(value, Mapping):
        return GaugeMetricFamily(name, text, value=value)
    family = GaugeMetricFamily(name, text, labels=list(value))
    family.add_metric(list(value.values()), 1)
    return family


def gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    """Several values of one figure, by the values of a label."""
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def one_of(name: str, text: str, states: Sequence[str], state: str) -> GaugeMetricFamily:
    """A gauge for each state: 1 for the present one, 0 for the others."""
    return gauges(name, text, "state", {each: float(each == state) for each in states})
