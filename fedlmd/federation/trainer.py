"""The warm trainer: one process at each worker that keeps data and models in memory between Flower's messages.

Flower starts a new process for every message. A process that has to import torch and load its data first spends more
time on that than on a round's training, so the messages' processes stay thin and ask this one. It listens on a Unix
socket in a folder of mode 0700, and knows nothing of models: the handler that it serves does.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np

from fedlmd.federation.wire import Frame, check_socket_path, read_frame, write_frame
from fedlmd.progress import Progress, Result

__all__ = ["Handler", "sentence", "serve"]

Handler = Callable[[str, dict[str, Any], dict[str, np.ndarray]], Iterator[Progress | Result]]

log = logging.getLogger(__name__)

# Connections served at once: one that works, the others for status and cancel.
CONNECTIONS = 8


@dataclass
class Job:
    """One call: its connection, what was asked, and how it stands."""

    line: Connection
    request: Frame
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)
    progress: Progress | None = None


class Desk:
    """Where the connections' threads hand their calls to the one thread that works."""

    def __init__(self) -> None:
        self.jobs: queue.Queue[Job] = queue.Queue()
        self.current: Job | None = None
        self.working = threading.Lock()

    def take(self, line: Connection) -> None:
        """Serve one connection to its end."""
        frame = read_frame(line)
        job = self.current
        if frame.kind == "request":
            self.hand_over(line, frame)
        elif frame.kind == "status":
            progress = asdict(job.progress) if job and job.progress else None
            action = job.request.fields["action"] if job else None
            write_frame(line, "status", busy=job is not None, action=action, progress=progress)
        elif frame.kind == "cancel":
            if job:
                job.cancelled.set()
            write_frame(line, "cancelled", busy=job is not None)
        else:
            write_frame(line, "error", reason=f"{frame.kind!r} is not a frame that a trainer takes")

    def hand_over(self, line: Connection, frame: Frame) -> None:
        """Let the working thread do a call, or refuse it while another runs."""
        if not self.working.acquire(blocking=False):
            write_frame(line, "error", reason="the trainer works on something else; ask again later", busy=True)
            return
        job = self.current = Job(line, frame)
        self.jobs.put(job)
        job.finished.wait()

    def work(self, job: Job, handler: Handler) -> None:
        """Do one call and free the desk, whatever happens; then say how it ended.

        In this order, so that a client that has its result is never told that the trainer is still busy with it.
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
            write_frame(job.line, ending.kind, ending.weights, **ending.fields)
        except (OSError, EOFError):
            log.warning("the client of %r went away; its work was stopped", job.request.fields["action"])
        job.finished.set()


def serve(handler: Handler, socket_path: Path, authkey: bytes, *, stop: threading.Event | None = None) -> None:
    """Serve a handler until ``stop`` is set, working in the calling thread.

    Args:
        handler: ``handler(action, config, weights)`` yields Progress and, last, one Result. An exception that it raises
            is sent to the client as one sentence; the traceback goes to the log.
        socket_path: at most 100 bytes; its folder is made with mode 0700 when it is missing.
        authkey: the secret that a client must know.
        stop: ends the service; None serves for as long as the process lives.

    Raises:
        ValueError: when the path is too long, others may enter its folder, or another trainer listens there.
    """
    prepare_socket(socket_path)
    stop = stop or threading.Event()
    desk = Desk()
    with Listener(str(socket_path), family="AF_UNIX", backlog=2 * CONNECTIONS, authkey=authkey) as listener:
        for number in range(CONNECTIONS):
            # Each thread accepts for itself: a client that stalls in the handshake holds up one of them, not all.
            name = f"trainer-connection-{number}"
            threading.Thread(target=receive, args=(listener, desk, stop), name=name, daemon=True).start()
        while not stop.is_set():
            try:
                job = desk.jobs.get(timeout=0.5)
            except queue.Empty:
                continue
            desk.work(job, handler)


def run_job(job: Job, handler: Handler) -> Frame:
    """Forward a handler's steps to the client and give the last word, a "result" or an "error".

    Raises:
        OSError: when the client is gone; the handler is closed then.
    """
    fields = job.request.fields
    steps: Iterator[Progress | Result] = iter(())
    try:
        steps = handler(fields["action"], fields["config"], job.request.weights or {})
        for item in steps:
            if isinstance(item, Result):
                return Frame("result", {"metrics": item.metrics}, item.weights)
            if job.cancelled.is_set():
                return Frame("error", {"reason": f"{fields['action']!r} was cancelled"})
            job.progress = item
            write_frame(job.line, "progress", **asdict(item))
        return Frame("error", {"reason": f"{fields['action']!r} ended without a result"})
    except (BrokenPipeError, ConnectionError):
        raise
    except Exception as error:
        log.exception("%r failed", fields["action"])
        return Frame("error", {"reason": sentence(error)})
    finally:
        close = getattr(steps, "close", None)
        if close is not None:
            close()


def sentence(error: Exception) -> str:
    """What went wrong, in words. The domain's errors are ValueErrors and say it themselves."""
    return str(error) if isinstance(error, ValueError) and str(error) else f"{type(error).__name__}: {error}"


def receive(listener: Listener, desk: Desk, stop: threading.Event) -> None:
    """Accept connections one after the other and serve each to its end."""
    while not stop.is_set():
        try:
            with listener.accept() as line:
                desk.take(line)
        except AuthenticationError:
            log.warning("a client with a wrong key was turned away")
        except (EOFError, OSError):
            # The client went away, or the listener was closed because the service ends.
            stop.wait(0.01)
        except (ValueError, KeyError) as error:
            log.warning("a frame could not be read: %s", error)


def prepare_socket(path: Path) -> None:
    """Make the socket's folder for this user alone, and clear away what a dead trainer left."""
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
