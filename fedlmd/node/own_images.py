"""A worker's own images, checked when its node starts: whether they can be used, and which labels they have."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from fedlmd.data import DataConfig, DataError, Split, Survey, scan, share_indices
from fedlmd.federation.announcement import Labels
from fedlmd.node.config import NodeConfig
from fedlmd.service.participants import DataState
from fedlmd.settings import Settings
from fedlmd.worker.images import WorkerConfig

log = logging.getLogger(__name__)

AGAIN_SECONDS = 30.0
"""Seconds between two checks of images that cannot be used: their folder may be mounted late."""
CHECKING = "its images are still being checked"
NAMED_AT_MOST = 20
"""Labels that a message lists."""


@dataclass(frozen=True)
class OwnImages:
    """The result of a check.

    Args:
        state: whether the images can be used.
        problem: why they cannot, in one sentence.
        labels: how many images each label has by split; None before a check could read them.
        notes: what was guessed or passed over, one sentence each.
        facts: what a sample of the images looks like, as JSON.
    """

    state: DataState
    problem: str | None = None
    labels: dict[str, dict[str, int]] | None = None
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] | None = None

    def announced(self, config: DataConfig) -> tuple[Labels | None, dict[str, Any] | None]:
        """Of labels and facts, what the settings let the server know; labels with their training images."""
        if self.labels is None or config.announce == "nothing":
            return None, None
        if config.announce == "labels":
            return tuple(self.labels), self.facts
        return {label: counts.get("train", 0) for label, counts in self.labels.items()}, self.facts


@final
class ImagesCheck:
    """Checks a worker's images in a thread, and again every 30 seconds while they cannot be used.

    Args:
        check: makes one check; see ``check_images``.
        changed: called after every check.
        again: seconds to the next check.
    """

    def __init__(
        self, check: Callable[[], OwnImages], changed: Callable[[], object], again: float = AGAIN_SECONDS
    ) -> None:
        self.check, self.changed, self.again = check, changed, again
        self.result = OwnImages("checking")
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, name="own-images", daemon=True)

    def start(self) -> None:
        """Start the first check."""
        self.thread.start()

    def stop(self) -> None:
        """Make no further check."""
        self.stopping.set()

    def run(self) -> None:
        """Check until the images can be used."""
        while not self.stopping.is_set():
            last, self.result = self.result, self.check()
            self.changed()
            if self.result.state == "usable":
                labels = tuple(self.result.labels or ())
                log.info("this worker's images can be used; their labels are %s", listed(labels))
                for note in self.result.notes:
                    log.info("of this worker's images: %s", note)
                return
            if last.problem != self.result.problem:
                log.error("this worker takes part in no run: %s", self.result.problem)
            self.stopping.wait(self.again)


def check_images(config: NodeConfig) -> OwnImages:
    """Check a worker's images once; never raises."""
    worker = WorkerConfig(config.name, config.settings.data, config.worker, config.data)
    try:
        if not config.data.is_dir():
            raise DataError(f"there is no data root {config.data}; mount or make it, or name another with --data")
        survey = worker.survey()
        return judged(survey, share_of(survey, worker), config.settings.labels)
    except DataError as error:
        problem = str(error)
    except Exception as error:
        log.exception("this worker's images cannot be checked")
        problem = f"its images cannot be read ({type(error).__name__}: {error})"
    return OwnImages("unusable", " ".join(problem.split()))


def share_of(survey: Survey, worker: WorkerConfig) -> dict[str, dict[str, int]]:
    """How many images each label has by split, in the worker's share of its source. Raises DataError."""
    if worker.data.partition.kind == "none":
        return survey.labels
    source = scan(worker.data.source, root=worker.root)
    counts: dict[str, dict[str, int]] = {label: {} for label in source.labels}
    split: Split
    for split in ("train", "eval"):
        labels = source.part(split, worker.data.evaluation).labels
        share = labels[share_indices(labels, source.labels, worker.data.partition, worker.worker)]
        numbers = np.bincount(share, minlength=len(source.labels)).tolist()
        for label, number in zip(source.labels, numbers, strict=True):
            counts[label][split] = number
    return {label: numbers for label, numbers in counts.items() if any(numbers.values())}


def judged(survey: Survey, labels: dict[str, dict[str, int]], wanted: Sequence[str]) -> OwnImages:
    """The result for a source that can be read, by the labels that the node's settings want.

    A run brings labels of its own, so the default ones, which nobody chose, refuse no source.
    """
    missing = [label for label in wanted if label not in labels]
    facts, notes = survey.facts.to_json(), survey.notes
    if not any(numbers.get("train") for numbers in labels.values()):
        return OwnImages("unusable", f"{survey.source} has no image to train on", labels, notes, facts)
    if missing and tuple(wanted) != Settings().labels:
        there = f"there are {listed(tuple(labels))}"
        if len(missing) == len(wanted):
            problem = f"{survey.source} has no image of any of the settings' labels, {listed(missing)}; {there}"
            return OwnImages("unusable", problem, labels, notes, facts)
        notes = (*notes, f"{survey.source} has no image of the settings' labels {listed(missing)}; {there}")
    return OwnImages("usable", None, labels, notes, facts)


def listed(labels: Sequence[str]) -> str:
    """Labels as a message lists them."""
    more = f" and {len(labels) - NAMED_AT_MOST:,} more" if len(labels) > NAMED_AT_MOST else ""
    return ", ".join(map(repr, labels[:NAMED_AT_MOST])) + more
