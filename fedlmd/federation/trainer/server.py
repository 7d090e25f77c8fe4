"""The warm trainer: one process at each worker that keeps data and models in memory between Flower's messages.

Flower starts a new process for every message. Importing torch and loading data would take such a process longer than a
round's training, so it only calls this one. The trainer listens on a Unix socket in a folder of mode 0700. It serves
any handler; the worker's, which has the networks, is in ``fedlmd.worker``.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from fedlmd.federation.trainer.connection import Frame, check_socket_path, read_frame, write_frame
from fedlmd.progress import Progress, Work, drain

Handler = Callable[[str, dict[str, Any], dict[str, np.ndarray]], Work]
"""Carries out a request: action, config, weights."""

log = logging.getLogger(__name__)

# Connections served at once: one with a call, the others for status and cancel.
CONNECTIONS = 8


class Cancelled(Exception):  # noqa: N818 - the name says it
    """The client cancelled the work."""


@dataclass
class Job:
    """One call: its connection, its request and its state."""

    connection: Connection
    request: Frame
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)
    progress: Progress | None = None


class JobQueue:
    """The connections' threads pass their calls to the one working thread, one at a time."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Job] = queue.Queue()
        self.current: Job | None = None
        self.working = threading.Lock()

    def take(self, connection: Connection) -> None:
        """Serve one connection to its end."""
        frame = read_frame(connection)
        job = self.current
        if frame.kind == "request":
            self.hand_over(connection, frame)
        elif frame.kind == "status":
            progress = asdict(job.progress) if job and job.progress else None
            action = job.request.fields["action"] if job else None
            write_frame(connection, "status", busy=job is not None, action=action, progress=progress)
        elif frame.kind == "cancel":
            if job:
                job.cancelled.set()
            write_frame(connection, "cancelled", busy=job is not None)
        else:
            write_frame(connection, "error", reason=f"{frame.kind!r} is not a frame that a trainer takes")

    def hand_over(self, connection: Connection, frame: Frame) -> None:
        """Pass a call to the working thread, or refuse it while another runs."""
        if not self.working.acquire(blocking=False):
            write_frame(connection, "error", reason="the trainer works on something else; ask again later", busy=True)
            return
        job = self.current = Job(connection, frame)
        self.queue.put(job)
        job.finished.wait()

    def work(self, job: Job, handler: Handler) -> None:
        """Do one call, become free for the next in any case, and then send how the call ended.

        In this order, so that a client that has its result never sees the trainer still busy with it.
        """
        try:
            ending = run_job(job, handler)
        except (OSError, EOFError):
            ending = None
        self.current = None
        self.working.release()
        try:
            if ending is None:
                raise EOFError
            write_frame(job.connection, ending.kind, ending.weights, **ending.fields)
        except (OSError, EOFError):
            log.warning("the client of %r went away; its work was stopped", job.request.fields["action"])
        job.finished.set()


def serve(handler: Handler, socket_path: Path, authkey: bytes, *, stop: threading.Event | None = None) -> None:
    """Serve a handler until ``stop`` is set, working in the calling thread.

    Args:
        handler: ``handler(action, config, weights)`` is the work. An exception that it raises is sent to the client as
            one sentence; the traceback is logged.
        socket_path: at most 100 bytes; its folder is created with mode 0700 when it is missing.
        authkey: the secret that a client must know.
        stop: ends the service; None serves as long as the process lives.

    Raises:
        ValueError: when the path is too long, other users may enter its folder, or another trainer listens there.
    """
    prepare_socket(socket_path)
    stop = stop or threading.Event()
    jobs = JobQueue()
    with Listener(str(socket_path), family="AF_UNIX", backlog=2 * CONNECTIONS, authkey=authkey) as listener:
        for number in range(CONNECTIONS):
            # Each thread accepts for itself: a client that stalls in the handshake blocks one of them, not all.
            name = f"trainer-connection-{number}"
            threading.Thread(target=receive, args=(listener, jobs, stop), name=name, daemon=True).start()
        while not stop.is_set():
            try:
                job = jobs.queue.get(timeout=0.5)
            except queue.Empty:
                continue
            jobs.work(job, handler)


def run_job(job: Job, handler: Handler) -> Frame:
    """Forward a handler's steps to the client; returns the final frame, a "result" or an "error".

    Raises:
        OSError: when the client is gone; the handler is closed then.
    """
    action = job.request.fields["action"]

    def forward(step: Progress) -> None:
        if job.cancelled.is_set():
            raise Cancelled(f"{action!r} was cancelled")
        job.progress = step
        write_frame(job.connection, "progress", **asdict(step))

    try:
        result = drain(handler(action, job.request.fields["config"], job.request.weights or {}), forward)
    except Cancelled as error:
        return Frame("error", {"reason": str(error)})
    except (BrokenPipeError, ConnectionError):
        raise
    except Exception as error:
        log.exception("%r failed", action)
        return Frame("error", {"reason": sentence(error)})
    return Frame("result", {"metrics": result.metrics}, result.weights)


def sentence(error: Exception) -> str:
    """An error as one sentence: the text of a ValueError, else also the type."""
    return str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"


def receive(listener: Listener, jobs: JobQueue, stop: threading.Event) -> None:
    """Accept connections one after the other and serve each to its end."""
    while not stop.is_set():
        try:
            with listener.accept() as connection:
                jobs.take(connection)
        except AuthenticationError:
            log.warning("a client with a wrong key was refused")
        except (EOFError, OSError):
            # The client went away, or the listener was closed because the service ends.
            stop.wait(0.01)
        except (ValueError, KeyError) as error:
            log.warning("a frame could not be read: %s", error)


def prepare_socket(path: Path) -> None:
    """Create the socket's folder for this user alone, and remove the socket of a dead trainer."""
    check_socket_path(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = stat.S_IMODE(path.parent.stat().st_mode)
    if mode & 0o077:
        raise ValueError(f"the socket's folder {path.parent} has mode {mode:o}; it must be 700, for this user alone")
    if not path.exists():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            os.unlink(path)
            return
    raise ValueError(f"another trainer already listens at {path}; stop it first, or choose another path")
