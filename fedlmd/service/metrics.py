"""The figures of a node for Prometheus: predictions, jobs, releases, drift and memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import final, get_args

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from fedlmd.calibration import DriftState, Verdict
from fedlmd.service.contract import Host, workers_connected
from fedlmd.service.jobs import Jobs
from fedlmd.service.run_metrics import gauge, gauges, one_of, run_families
from fedlmd.service.schema import JobState

P_VALUES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Upper ends of the p-values' buckets: finer where the verdict changes, else even, as known images' p-values are."""

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@final
class InferenceMetrics:
    """Counts the predictions of one service.

    Attributes:
        registry: holds the counts, the figures of this process, and whatever else is registered in it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.predictions = Counter("fedlmd_answers", "Images predicted.", ["verdict"], registry=self.registry)
        for verdict in get_args(Verdict):
            self.predictions.labels(verdict)  # a rate counts the first prediction only where there was a 0 before it
        text = "P-values that the drift watch may count; evenly distributed while images are as calibrated."
        self.p_values = Histogram("fedlmd_p_value", text, buckets=P_VALUES, registry=self.registry)
        text = "Seconds from an image's arrival to its prediction, waiting for a free thread included."
        self.seconds = Histogram("fedlmd_infer_seconds", text, buckets=SECONDS, registry=self.registry)
        ProcessCollector(registry=self.registry)

    def count(self, verdict: Verdict, p_value: float | None, seconds: float) -> None:
        """Count a prediction.

        Args:
            verdict: of the image.
            p_value: in (0, 1]; None where another score decided, or where the image is kept out of the drift watch.
            seconds: from the image's arrival to the response.
        """
        self.predictions.labels(verdict).inc()
        self.seconds.observe(seconds)
        if p_value is not None:
            self.p_values.observe(p_value)


@final
class NodeCollector(Collector):
    """Reads the figures of a node at each scrape.

    Args:
        host: the node.
        jobs: its local trainings.
        started: when the service began, on the monotonic clock.
    """

    def __init__(self, host: Host, jobs: Jobs, started: float) -> None:
        self.host, self.jobs, self.started = host, jobs, started

    def collect(self) -> Iterator[Metric]:
        """Every figure of the node that is not counted as it happens."""
        labels = {"name": self.host.name, "role": self.host.role, "version": version("fedlmd")}
        yield gauge("fedlmd_node_info", "The node.", labels)
        yield gauge("fedlmd_uptime_seconds", "Since the service began.", time.monotonic() - self.started)
        yield gauge("fedlmd_children_resident_memory_bytes", "Trainer's and Flower's processes.", children_memory())
        yield from self.releases()
        yield from self.work()
        yield from self.drift()
        if (connected := workers_connected(self.host)) is not None:
            yield gauge("fedlmd_workers_connected", "Workers that the server accepted within seconds.", connected)
        if self.host.runs is not None:
            yield from run_families(self.host.runs)

    def releases(self) -> Iterator[Metric]:
        """How many releases there are, and which one is current."""
        releases = self.host.releases.list()
        yield gauge("fedlmd_releases", "Releases that the node holds.", len(releases))
        for release in releases:
            if release.current:
                yield gauge("fedlmd_release_info", "The current release.", {"release": release.id})
                text = "When the current release was made, in seconds since 1970."
                yield gauge("fedlmd_release_created_timestamp_seconds", text, release.created.timestamp())
                if "accuracy" in release.metrics:
                    text = "Accuracy of the current release when it was made, in [0, 1]."
                    yield gauge("fedlmd_release_accuracy", text, float(release.metrics["accuracy"]))

    def work(self) -> Iterator[Metric]:
        """What the trainer does, and how many jobs there are in each state."""
        progress = self.host.progress
        yield gauge("fedlmd_training", "Whether the trainer is at work.", float(progress is not None))
        if progress is not None:
            share = {progress.stage: progress.done / max(1, progress.total)}
            yield gauges("fedlmd_training_progress", "Share done of a stage, in [0, 1].", "stage", share)
        states = [job.now.state for job in self.jobs.list()]
        counts = {state: states.count(state) for state in get_args(JobState)}
        yield gauges("fedlmd_jobs", "Local trainings that are remembered.", "state", counts)

    def drift(self) -> Iterator[Metric]:
        """How the drift watch stands; nothing before one has begun."""
        watched = self.host.watched
        if watched is None:
            return
        yield one_of("fedlmd_drift_state", "Of the current release's drift watch.", get_args(DriftState), watched.state)
        yield gauge("fedlmd_drift_images", "Images counted since the watch began or was reset.", watched.images)
        text = "The watch's evidence that the images drift; an alarm is raised at the threshold."
        yield gauge("fedlmd_drift_evidence", text, watched.evidence)
        yield gauge("fedlmd_drift_threshold", "Evidence at which an alarm is raised.", watched.threshold)
        yield CounterMetricFamily("fedlmd_drift_alarms", "Alarms that this release raised.", value=watched.alarms)
        repeats = watched.repeats
        text = "How many of the latest predictions were of identical images."
        yield gauge("fedlmd_repeats_in_a_row", text, repeats.in_a_row)
        yield gauge("fedlmd_repeats_share", "Share of repeats among the latest 100 predictions.", repeats.share)
        yield gauge("fedlmd_repeats_alarm", "Whether repeats raised an alarm.", float(repeats.alarm is not None))


def children_memory() -> int:
    """Resident bytes of all descendants of this process."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue  # it has just ended
    return total
