"""The event log of a run: one JSON object a line, written by the server's Flower process and followed by the node.

While that process lives it holds a lock on the log. The operating system releases the lock when the process ends, in
whatever way, so that a reader who sees the log unlocked and without a final event knows that none will come.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedlmd.release import finite

EVENTS = "events.jsonl"
RESUMED = "resumed"
"""The event that continues a run after a final one."""
FINAL = frozenset({"finished", "failed", "stopped"})
DAMAGED = "damaged"
"""What a line that cannot be read is read as."""

LONGEST = {"name": 100, "worker": 100, "reason": 500}
LONGEST_TEXT = 4_000
"""Characters that a text of an event has at most, by its key; what is beyond is cut off. Some come from workers."""


class EventLog:
    """Writes and reads the event log of one run.

    Args:
        run_dir: the run's folder, which holds ``events.jsonl``.
    """

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / EVENTS

    def append(self, event: str, **fields: object) -> None:
        """Write one event with the time (UTC, ISO 8601), as a complete line of ASCII or not at all.

        A number that is not finite is written as null, for JSON has no such numbers. Long texts are cut off.

        Raises:
            OSError: when the disk is full or fails.
        """
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        line = (json.dumps(shortened(finite(entry)), allow_nan=False) + "\n").encode("ascii")
        with self.path.open("ab", buffering=0) as file:
            end = file.tell()
            if file.write(line) < len(line):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the log's lock, which shows that the writer lives."""
        with self.path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def is_held(self) -> bool:
        """Whether the run's writer lives."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read(self) -> list[dict[str, Any]]:
        """The events so far; none when there is no log yet. A line that cannot be read is a "damaged" event."""
        return [parsed(line) for line in new_lines(self.path, 0)]

    def mend(self) -> None:
        """Cut off the incomplete line that a killed writer left. Only for a log that no process holds."""
        if self.path.exists():
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)

    def attempt(self) -> list[dict[str, Any]]:
        """The events since the run was resumed; all of them when it never was."""
        return last_attempt(self.read())

    def has_started(self) -> bool:
        """Whether the run's process has started; other processes may have written before it."""
        return any(event["event"] == "started" for event in self.attempt())

    def final(self) -> dict[str, Any] | None:
        """The first event that ends the run, or None while it runs or was resumed."""
        return next((event for event in self.attempt() if event["event"] in FINAL), None)


def last_attempt(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of a run from its last "resumed" on; all of them when it never was resumed."""
    starts = [position for position, event in enumerate(events) if event["event"] == RESUMED]
    return events[starts[-1] :] if starts else events


def follow_events(path: Path, silence: float, poll: float = 0.2) -> Iterator[dict[str, Any] | None]:
    """Yield the events of a log as they are written, and None whenever none was for ``silence`` seconds.

    Ends after the first final event that no resumption follows. Waits for a log that does not exist yet.
    """
    offset, latest = 0, time.monotonic()
    while True:
        lines = new_lines(path, offset)
        events = [parsed(line) for line in lines]
        resumed = max((position for position, event in enumerate(events) if event["event"] == RESUMED), default=-1)
        for position, event in enumerate(events):
            offset += len(lines[position])
            yield event
            if event["event"] in FINAL and position > resumed:
                return
        if lines:
            latest = time.monotonic()
        elif time.monotonic() - latest >= silence:
            yield None
            latest = time.monotonic()
        else:
            time.sleep(poll)


def new_lines(path: Path, offset: int) -> list[bytes]:
    """The complete lines of a file after a byte offset, each with its newline, which alone ends a line."""
    if not path.exists() or os.path.getsize(path) <= offset:
        return []
    with path.open("rb") as file:
        file.seek(offset)
        text = file.read()
    return [line + b"\n" for line in text.split(b"\n")[:-1]]


def parsed(line: bytes) -> dict[str, Any]:
    """The event of a line; a "damaged" one where the line is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if isinstance(event, dict) and isinstance(event.get("event"), str):
        return event
    return {"time": None, "event": DAMAGED, "bytes": len(line)}


def shortened(value: Any, key: str = "") -> Any:  # noqa: ANN401 - any JSON
    """JSON whose texts are no longer than ``LONGEST`` and ``LONGEST_TEXT`` say."""
    if isinstance(value, str):
        most = LONGEST.get(key, LONGEST_TEXT)
        return value if len(value) <= most else value[: most - 1] + "…"
    if isinstance(value, dict):
        return {name: shortened(part, name) for name, part in value.items()}
    return [shortened(part, key) for part in value] if isinstance(value, list | tuple) else value
