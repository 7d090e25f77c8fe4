"""A worker's connection to the server: it announces itself, and takes part in runs once the server accepts it."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, final

from fedlmd.federation.announcement import LARGEST, Announcement
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.requests import Answer, announce
from fedlmd.service.participants import ConnectionState

log = logging.getLogger(__name__)

EVERY_SECONDS = 2.0
WITHOUT_SECONDS = 6.0
"""So long a worker counts as connected without being accepted again: a busy server may miss an announcement."""
LEAVE_SECONDS = 1.0


class Engine(Protocol):
    """Flower's processes of a worker."""

    def start(self) -> None:
        """Start them. Raises EngineError."""

    def stop(self) -> None:
        """End them; no effect when none runs."""


@dataclass(frozen=True)
class Connection:
    """How a worker stands with its server.

    Args:
        state: "connecting" before the first response.
        reason: why it is not connected, in one sentence.
        since: when this state began.
    """

    state: ConnectionState
    reason: str | None
    since: datetime


@final
class ServerConnection:
    """Announces a worker every 2 seconds, and lets Flower's processes run only while the server accepts the worker.

    A server that cannot be reached ends nothing: Flower's processes connect again by themselves.

    Args:
        address: of Flower's server.
        engine: Flower's processes of the worker.
        describe: the worker's state as it is now.
        every: seconds between two announcements.
        send: sends one, as ``announce`` does.
    """

    def __init__(
        self,
        address: Address,
        engine: Engine,
        describe: Callable[[], Announcement],
        *,
        every: float = EVERY_SECONDS,
        send: Callable[[Address, Announcement, float], Answer] = announce,
    ) -> None:
        self.address, self.engine, self.describe, self.every, self.send = address, engine, describe, every, send
        self.last = Connection("connecting", None, datetime.now(UTC))
        self.accepted = -WITHOUT_SECONDS
        self.running = False
        self.lock = threading.Lock()
        self.stopping, self.soon = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, name="server-connection", daemon=True)

    @property
    def now(self) -> Connection:
        """How the worker stands with its server."""
        last, silence = self.last, time.monotonic() - self.accepted
        if last.state == "connected" and silence >= WITHOUT_SECONDS + self.every:
            return replace(last, state="unreachable", reason=f"the server has not responded for {silence:.0f} s")
        return last

    def start(self) -> None:
        """Start announcing."""
        self.thread.start()

    def announce_soon(self) -> None:
        """Announce the worker at once: its state has changed."""
        self.soon.set()

    def stop(self) -> None:
        """End Flower's processes of the worker; it announces itself no more."""
        self.stopping.set()
        self.soon.set()
        with self.lock:
            self.engine.stop()
            self.running = False

    def leave(self) -> None:
        """Let the server know that the worker ends, so that its name is free at once."""
        self.stopping.set()
        self.soon.set()
        if self.thread.ident is not None:
            # An announcement under way would bring the worker back.
            self.thread.join(LEAVE_SECONDS)
        if self.last.state == "connected":
            self.send(self.address, replace(self.describe(), leaving=True), LEAVE_SECONDS)

    def run(self) -> None:
        """Announce until the node ends."""
        while not self.stopping.is_set():
            self.soon.clear()
            try:
                self.step()
            except Exception:
                log.exception("this worker could not announce itself")
            self.soon.wait(self.every)

    def step(self) -> None:
        """Announce the worker once, and start or end Flower's processes by the server's answer."""
        sent = self.describe()
        if len(sent.to_json()) > LARGEST:
            sent = replace(sent, labels=None)
        answer = self.send(self.address, sent, self.every + 3.0)
        if answer.outcome == "accepted":
            self.accepted = time.monotonic()
        elif answer.outcome == "unreachable" and time.monotonic() - self.accepted < WITHOUT_SECONDS:
            return
        reason = self.let_run(answer, usable=sent.problem is None) or answer.reason
        self.note("connected" if answer.outcome == "accepted" else answer.outcome, reason)

    def let_run(self, answer: Answer, *, usable: bool) -> str | None:
        """Start or end Flower's processes; returns why they do not start."""
        with self.lock:
            if answer.outcome == "refused" and self.running:
                self.engine.stop()
                self.running = False
            elif answer.outcome == "accepted" and usable and not self.running and not self.stopping.is_set():
                try:
                    self.engine.start()
                except EngineError as error:
                    return str(error)
                self.running = True
        return None

    def note(self, state: ConnectionState, reason: str | None) -> None:
        """Remember the state, and log it where it is another than before."""
        last = self.last
        self.last = Connection(state, reason, last.since if state == last.state else datetime.now(UTC))
        if (state, kind_of(reason)) == (last.state, kind_of(last.reason)) or self.stopping.is_set():
            return
        if reason is None:
            log.info("connected to the server at %s", self.address)
        else:
            by = " by the server at" if state == "refused" else ","
            log.warning("%s%s %s: %s", state, by, self.address, reason)


def kind_of(reason: str | None) -> str:
    """A reason without its numbers, such as the seconds by which a clock is wrong."""
    return re.sub("[0-9]+", "", reason or "")
