"""The drift watch of a node, stored in a file."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import final

from fedlmd.calibration import DriftConfig, DriftReport, DriftWatch, from_json, to_json

log = logging.getLogger(__name__)

REMEMBERED = 1000
"""Number of latest images that are recognised when they come again."""

EVERY = 5.0
"""Seconds between two writes, except at an alarm or a reset; a crash loses at most so much."""


@final
class PersistentDriftWatch:
    """Watches the p-values of the current release's predictions; safe for several threads.

    The file holds counts and evidence; a restart continues from it. Digests of the last images are in memory only: the
    test assumes that images are drawn independently, so a repeated image does not count in it. Repeats are watched by
    themselves: many of them come from a camera that is stuck. A crash loses the evidence of a few seconds and never
    adds any.

    Args:
        path: the file; its folder exists.
        config: how to test; None for the default.
        every: seconds between two writes.
    """

    def __init__(self, path: Path, config: DriftConfig | None = None, every: float = EVERY) -> None:
        self.path, self.every = path, every
        self.config = DriftConfig() if config is None else config
        self.lock, self.writing = threading.Lock(), threading.Lock()
        self.digests: dict[bytes, None] = {}
        self.saved = time.monotonic()
        self.watch = self.read()

    def read(self) -> DriftWatch | None:
        """The watch in the file; None where the file is missing or, with a warning in the log, cannot be used."""
        try:
            return from_json(json.loads(self.path.read_bytes()), self.config)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError) as error:
            log.warning("the drift watch in %s cannot be used (%s); the watch begins anew, steady", self.path, error)
            return None

    def observe(self, release: str, count: int, p_value: float, image: bytes) -> None:
        """Count a prediction.

        Args:
            release: id of the release that made it. Another one than before begins a new watch.
            count: images of its calibration.
            p_value: of the image, in (0, 1].
            image: its pixels; one of the last images counts as a repeat alone.
        """
        digest, now = hashlib.blake2b(release.encode() + image, digest_size=16).digest(), datetime.now(UTC)
        with self.lock:
            before, watch, repeated = self.watch, self.watch_of(release, count), self.repeated(digest)
            repeating = watch.repeats.observe(digest, now, repeated=repeated)
            drifting = not repeated and watch.observe(p_value, now)
            due = watch is not before or drifting or repeating or time.monotonic() - self.saved >= self.every
            report = watch.report()
        if drifting:
            warn_of_drift(report)
        if repeating:
            warn_of_repeats(report)
        if due:
            self.save()

    def repeated(self, digest: bytes) -> bool:
        """Whether the image of a digest came lately; the lock is held."""
        known = digest in self.digests
        self.digests.pop(digest, None)
        self.digests[digest] = None
        if len(self.digests) > REMEMBERED:
            del self.digests[next(iter(self.digests))]
        return known

    def watch_of(self, release: str, count: int) -> DriftWatch:
        """The watch of a release, created where there is none; the lock is held."""
        if self.watch is None or self.watch.release != release:
            self.watch = DriftWatch(release, count, datetime.now(UTC), self.config)
        return self.watch

    def look(self, release: str | None) -> DriftReport | None:
        """State of a release's watch; None where there is none."""
        with self.lock:
            return self.watch.report() if self.watch is not None and self.watch.release == release else None

    def report(self, release: str, count: int) -> DriftReport:
        """State of a release's watch, which is created where there is none."""
        with self.lock:
            return self.watch_of(release, count).report()

    def reset(self, release: str, count: int) -> DriftReport:
        """Watch a release anew."""
        with self.lock:
            watch = self.watch_of(release, count)
            watch.reset(datetime.now(UTC))
            report = watch.report()
        self.save()
        return report

    def save(self) -> None:
        """Write the watch atomically."""
        part = self.path.with_suffix(".part")
        with self.writing:
            with self.lock:
                if self.watch is None:
                    return
                text = json.dumps(to_json(self.watch))
                self.saved = time.monotonic()
            try:
                with part.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(part, self.path)
            except OSError as error:
                log.warning("the drift watch cannot be written (%s); a restart would forget its latest images", error)


def warn_of_drift(report: DriftReport) -> None:
    """Log an alarm of drift."""
    if report.alarm is not None:
        log.warning(
            "the images drift: low p-values come more often than the calibration of release %s can account for, "
            "since about image %d of %d; acknowledge it with DELETE /v1/drift",
            report.release,
            report.alarm.since,
            report.images,
        )


def warn_of_repeats(report: DriftReport) -> None:
    """Log an alarm that images are repeated."""
    log.warning(
        "the same images come again and again (%d identical ones in a row, %.0f%% repeats lately); is the camera "
        "stuck, or a recording played? release %s predicts them all the same; acknowledge it with DELETE /v1/drift",
        report.repeats.in_a_row,
        100 * report.repeats.share,
        report.release,
    )
