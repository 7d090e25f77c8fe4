"""What a node tells Prometheus of itself: its answers, jobs, releases, drift and memory."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, final, get_args

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fedlmd.detection import DriftState, Verdict
from fedlmd.service.jobs import JobState
from fedlmd.service.run_metrics import gauge, one_of, run_families

if TYPE_CHECKING:
    from fedlmd.service.state import Service

__all__ = ["AnswerMetrics", "NodeCollector"]

P_VALUES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper ends of the p-values' buckets: finer where the verdict changes, else even, as known images' p-values are."""

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@final
class AnswerMetrics:
    """Counts the answers of one service.

    ``registry`` holds the counts, the figures of this process, and whatever else is registered in it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("fedlmd_answers", "Images answered.", ["verdict"], registry=self.registry)
        for verdict in get_args(Verdict):
            self.answers.labels(verdict)  # a rate can be taken from the first answer on only where there was a 0
        told = "P-values of the answers that the drift watch may count; evenly spread while images are as calibrated."
        self.p_values = Histogram("fedlmd_p_value", told, buckets=P_VALUES, registry=self.registry)
        told = "Seconds from an image's arrival to its answer, waiting for a free thread included."
        self.seconds = Histogram("fedlmd_infer_seconds", told, buckets=SECONDS, registry=self.registry)
        ProcessCollector(registry=self.registry)

    def count(self, verdict: Verdict, p_value: float | None, seconds: float) -> None:
        """Count an answer.

        Args:
            verdict: what it said.
            p_value: in (0, 1]; None where another score decided, or where the image is kept out of the drift watch.
            seconds: that it took.
        """
        self.answers.labels(verdict).inc()
        self.seconds.observe(seconds)
        if p_value is not None:
            self.p_values.observe(p_value)


@final
class NodeCollector(Collector):
    """Looks at a node whenever it is asked for its figures.

    Args:
        service: the node's.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[Metric]:
        """Every figure of the node that is not counted as it happens."""
        host = self.service.host
        told = {"name": host.name, "role": host.role, "version": version("fedlmd")}
        yield gauge("fedlmd_node_info", "The node.", told)
        yield gauge("fedlmd_uptime_seconds", "Since the service began.", time.monotonic() - self.service.started)
        yield gauge("fedlmd_children_resident_memory_bytes", "Trainer's and Flower's processes.", children_memory())
        yield from self.releases()
        yield from self.work()
        yield from self.drift()
        runs = host.runs()
        if runs is not None:
            yield from run_families(runs)

    def releases(self) -> Iterator[Metric]:
        """How many releases there are, and which one answers."""
        found = self.service.host.releases()
        yield gauge("fedlmd_releases", "Releases that the node holds.", len(found))
        for release in found:
            if release.current:
                yield gauge("fedlmd_release_info", "The current release.", {"release": release.id})
                made = "When the current release was made, in seconds since 1970."
                yield gauge("fedlmd_release_created_timestamp_seconds", made, release.created.timestamp())
                if "accuracy" in release.metrics:
                    of = "Accuracy of the current release when it was made, in [0, 1]."
                    yield gauge("fedlmd_release_accuracy", of, float(release.metrics["accuracy"]))

    def work(self) -> Iterator[Metric]:
        """What the trainer and the jobs are at."""
        progress = self.service.host.progress
        yield gauge("fedlmd_training", "Whether the trainer is at work.", float(progress is not None))
        if progress is not None:
            share = GaugeMetricFamily("fedlmd_training_progress", "Share done of a stage, in [0, 1].", labels=["stage"])
            share.add_metric([progress.stage], progress.done / max(1, progress.total))
            yield share
        states = Tally(job.snapshot().state for job in self.service.jobs.list())
        jobs = GaugeMetricFamily("fedlmd_jobs", "Local trainings that are remembered.", labels=["state"])
        for state in get_args(JobState):
            jobs.add_metric([state], states[state])
        yield jobs

    def drift(self) -> Iterator[Metric]:
        """How the drift watch stands; nothing before one has begun."""
        watched = self.service.host.watched
        if watched is None:
            return
        yield one_of("fedlmd_drift_state", "Of the current release's drift watch.", get_args(DriftState), watched.state)
        yield gauge("fedlmd_drift_images", "Images counted since the watch began or was reset.", watched.images)
        evidence = "The watch's evidence that the images drift; an alarm is raised at the threshold."
        yield gauge("fedlmd_drift_evidence", evidence, watched.evidence)
        yield gauge("fedlmd_drift_threshold", "Evidence at which an alarm is raised.", watched.threshold)
        yield CounterMetricFamily("fedlmd_drift_alarms", "Alarms that this release raised.", value=watched.alarms)


def children_memory() -> int:
    """Resident bytes of the processes that this one has started, and of theirs."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return total
