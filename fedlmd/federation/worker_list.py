"""The workers that announced themselves to a server: which of them it accepts, and what it knows of each."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, final

from fedlmd.federation.announcement import Announcement, Labels, name_problem

CONNECTED_SECONDS = 5.0
"""A worker is connected that was accepted within so many seconds."""
NAME_SECONDS = 15.0
"""So long after its last announcement a worker keeps its name."""
FORGET_SECONDS = 3600.0
MOST_AHEAD, MOST_BEHIND = 5.0, 300.0
"""Seconds that a worker's clock may differ from the server's. Flower's own limits for signed messages."""
MOST_WORKERS = 1_000
LABELS_IN_ALL = 200_000
"""Labels that are kept of all workers together; those of a worker that would exceed it are not kept."""


@dataclass(frozen=True)
class AnnouncedWorker:
    """A worker that announced itself, as the server knows it. What it says of itself need not be true.

    Args:
        name: its name.
        version: of this package.
        flower: version of Flower.
        labels: the number of its training images by label, its labels alone, or None where it lets nobody know.
        images: what its images are like, as JSON; None where it lets nobody know.
        problem: why its images cannot be used, in one sentence; None where they can.
        doing: stage, steps done and steps in all of what its trainer does; None when it is idle.
        refused: why the server does not accept it, in one sentence; None where it does.
        connected: whether it was accepted within the last seconds.
        last_seen: when its last announcement came.
    """

    name: str
    version: str
    flower: str
    labels: Labels | None
    images: dict[str, Any] | None
    problem: str | None
    doing: dict[str, Any] | None
    refused: str | None
    connected: bool
    last_seen: datetime

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Its labels; None where it lets nobody know them."""
        return None if self.labels is None else tuple(self.labels)

    def to_json(self) -> dict[str, Any]:
        """The worker as JSON has it."""
        return {**asdict(self), "last_seen": self.last_seen.isoformat(timespec="milliseconds")}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> AnnouncedWorker:
        """The inverse of ``to_json``."""
        labels = tuple(fields["labels"]) if isinstance(fields["labels"], list) else fields["labels"]
        return cls(**{**fields, "labels": labels, "last_seen": datetime.fromisoformat(fields["last_seen"])})


@dataclass(frozen=True)
class Entry:
    """An announcement, when it came on the monotonic clock and since 1970, and why it was refused."""

    announcement: Announcement
    seen: float
    time: float
    refused: str | None


@final
class WorkerList:
    """The announcements of the last hour, in memory; safe for several threads.

    Args:
        most: number of workers that are listed.
        labels: number of labels that are kept of all of them together.
    """

    def __init__(self, most: int = MOST_WORKERS, labels: int = LABELS_IN_ALL) -> None:
        self.most, self.labels, self.lock = most, labels, threading.Lock()
        self.entries: dict[tuple[str, str], Entry] = {}
        self.version, self.flower = version("fedlmd"), minor(version("flwr"))

    def announce(self, sent: Announcement, now: float | None = None, clock: float | None = None) -> str | None:
        """Take an announcement.

        Args:
            sent: the announcement.
            now: when it came, on the monotonic clock; None for now.
            clock: the same in seconds since 1970.

        Returns:
            Why it is refused, in one sentence; None where it is accepted.
        """
        now, clock = time.monotonic() if now is None else now, time.time() if clock is None else clock
        key = (sent.name, sent.instance)
        with self.lock:
            self.forget(now)
            if sent.leaving:
                self.entries.pop(key, None)
                return None
            refused = self.refusal(sent, now, clock)
            if key not in self.entries and not self.has_room(now):
                return f"the server already lists {self.most:,} workers; it takes no more"
            # Of a refused worker nothing is kept that could be large.
            kept = replace(sent, labels=None, images=None, doing=None, problem=None) if refused else sent
            others = sum(len(each.announcement.labels or ()) for at, each in self.entries.items() if at != key)
            if others + len(kept.labels or ()) > self.labels:
                kept = replace(kept, labels=None)
            self.entries[key] = Entry(kept, now, clock, refused)
            return refused

    def refusal(self, sent: Announcement, now: float, clock: float) -> str | None:
        """Why an announcement is refused; the lock is held."""
        if problem := name_problem(sent.name):
            return problem
        programs = ("fedlmd", sent.version, self.version), ("Flower", minor(sent.flower), self.flower)
        for program, its, own in programs:
            if its != own:
                return f"it runs {program} {its:.40} and the server {own}; install the server's version at the worker"
        ahead = sent.clock - clock
        if ahead > MOST_AHEAD or -ahead > MOST_BEHIND:
            way, most = ("ahead of", MOST_AHEAD) if ahead > 0 else ("behind", MOST_BEHIND)
            way = f"{way} the server's (at most {most:g} s)"
            return f"its clock is {abs(ahead):.0f} s {way}; set the clocks of both, such as by NTP"
        for (name, instance), entry in self.entries.items():
            other = name == sent.name and instance != sent.instance and entry.refused is None
            if other and now - entry.seen < NAME_SECONDS:
                return f"another worker is connected under the name {sent.name!r}; give each worker a name of its own"
        return None

    def has_room(self, now: float) -> bool:
        """Whether another worker can be listed, in place of one that is refused or gone where need be; lock held."""
        if len(self.entries) < self.most:
            return True
        idle = [key for key, each in self.entries.items() if each.refused or now - each.seen >= NAME_SECONDS]
        if idle:
            del self.entries[min(idle, key=lambda key: self.entries[key].seen)]
        return bool(idle)

    def forget(self, now: float) -> None:
        """Remove what is old, and the former processes of workers that were accepted again; the lock is held."""
        accepted = {name: entry.seen for (name, _), entry in self.entries.items() if entry.refused is None}
        for key, entry in list(self.entries.items()):
            replaced = now - entry.seen >= NAME_SECONDS and accepted.get(key[0], -1.0) > entry.seen
            if replaced or now - entry.seen > FORGET_SECONDS:
                del self.entries[key]

    def list(self, now: float | None = None) -> list[AnnouncedWorker]:
        """The workers by name, those that are accepted first."""
        now = time.monotonic() if now is None else now
        with self.lock:
            self.forget(now)
            entries = sorted(self.entries.values(), key=lambda each: (each.announcement.name, each.refused or ""))
        return [worker_of(entry, now) for entry in entries]


def worker_of(entry: Entry, now: float) -> AnnouncedWorker:
    """An entry as others get it."""
    sent = entry.announcement
    return AnnouncedWorker(
        name=sent.name,
        version=sent.version,
        flower=sent.flower,
        labels=sent.labels,
        images=sent.images,
        problem=sent.problem,
        doing=sent.doing,
        refused=entry.refused,
        connected=entry.refused is None and now - entry.seen < CONNECTED_SECONDS,
        last_seen=datetime.fromtimestamp(entry.time, UTC),
    )


def minor(text: str) -> str:
    """The first two numbers of a version."""
    return ".".join(text.split(".")[:2])
