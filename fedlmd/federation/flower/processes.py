"""Supervised processes: restarted when they die or hang, and ended together with all processes that they started."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from fedlmd.federation.flower.address import Address

LARGEST_LOG = 10_000_000
FIRST_PAUSE, LONGEST_PAUSE, STABLE = 0.5, 30.0, 60.0
# Seconds between two checks whether a program responds, and seconds without a response after which it hangs.
CHECK_SECONDS, HANG_SECONDS = 5.0, 120.0
# Seconds between SIGTERM and SIGKILL. Container engines kill all 10 seconds after they have asked for the end.
GRACE_SECONDS = 3.0
PROXIES = {f"{protocol}_proxy" for protocol in ("all", "http", "https", "ftp", "socks", "socks5", "ws", "wss")}

log = logging.getLogger(__name__)


class EngineError(RuntimeError):
    """One of Flower's processes failed; the text says how, and where its log is."""


def program(name: str) -> str:
    """The program beside the running interpreter: PATH may lead to another environment's."""
    return str(Path(sys.executable).parent / name)


def flower_environment(home: Path, host: str) -> dict[str, str]:
    """The environment of Flower's processes.

    Flower sends no telemetry, checks for no updates and installs no packages; a process computes with one thread;
    Flower's programs are on the PATH; and connections between them use no proxy, whatever variables name one.

    Args:
        home: the node's folder; Flower keeps its own files in ``home/flower``.
        host: the server's name or address.
    """
    direct = ",".join(filter(None, [os.environ.get("no_proxy", ""), "127.0.0.1", "localhost", host]))
    return {
        **{name: value for name, value in os.environ.items() if name.lower() not in PROXIES},
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "FLWR_HOME": str(home / "flower"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "no_proxy": direct,
        "NO_PROXY": direct,
    }


def check_port(host: str, port: int) -> None:
    """Raise EngineError when a port cannot be listened at."""
    if reason := Address(host, port).why_taken():
        raise EngineError(f"port {port} of {host} cannot be used ({reason}); choose another")


def side_by_side(*stops: Callable[[], None]) -> None:
    """Call functions that end processes, all at once: together they take as long as the slowest."""
    with ThreadPoolExecutor(max(1, len(stops))) as pool:
        for future in [pool.submit(stop) for stop in stops]:
            future.result()


class SupervisedProcess:
    """One program in its own process group, kept running by its own thread.

    Args:
        command: the program, by full path, and its arguments.
        environment: its whole environment.
        log: file that its output is appended to; renamed to ``*.old`` when it is over 10 MB at a start.
        home: its working folder.
        answers: whether the program responds; called periodically. None when there is no such check.
        patience: seconds without a response, also after a start, after which the program is ended and started again.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        home: Path,
        *,
        answers: Callable[[], bool] | None = None,
        patience: float = HANG_SECONDS,
    ) -> None:
        self.answers, self.patience = answers, patience
        self.command = [sys.executable, "-m", "fedlmd.federation.flower.parent_guard", str(os.getpid()), *command]
        self.environment, self.log, self.home = dict(environment), log, home
        self.starts = 0
        self._stopping = threading.Event()
        self._started = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The parent-death guard watches the thread that starts the program, so this one lives as long as the program.
        self._supervisor = threading.Thread(target=self._supervise, name=f"supervisor-{log.stem}", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the running program, or None between two starts."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start the program and return once it is launched."""
        self._supervisor.start()
        self._started.wait(timeout=30.0)

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End the program and everything in its group: by SIGTERM, and after ``grace`` seconds by SIGKILL."""
        self._stopping.set()
        process = self._process
        if process is not None:
            end_group(process.pid, grace)
        if self._supervisor.ident is not None:
            self._supervisor.join()

    def log_tail(self, lines: int = 5) -> str:
        """The end of the program's log."""
        if not self.log.exists():
            return ""
        return " | ".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def _supervise(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            self._process = self._launch()
            self.starts += 1
            self._started.set()
            if self._stopping.is_set():
                end_group(self._process.pid, 0.0)
            self._watch(self._process)
            if not self._stopping.is_set():
                # Processes that a dead program left would conflict with those of the next one.
                end_group(self._process.pid, 1.0)
            pause = FIRST_PAUSE if time.monotonic() - began > STABLE else min(2 * pause, LONGEST_PAUSE)
            self._stopping.wait(pause)

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """Return when the program has died or, where there is a check, has not responded for too long."""
        if self.answers is None:
            process.wait()
            return
        responded = time.monotonic()
        while process.poll() is None:
            if self.answers():
                responded = time.monotonic()
            elif time.monotonic() - responded > self.patience:
                log.warning("%s has not responded for %.0f s and is started again", self.log.stem, self.patience)
                # A process that hangs does not handle SIGTERM.
                end_group(process.pid, 0.0)
            with suppress(subprocess.TimeoutExpired):
                process.wait(min(CHECK_SECONDS, self.patience / 4))

    def _launch(self) -> subprocess.Popen[bytes]:
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".old"))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self.command,
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def end_group(group: int, grace: float) -> None:
    """End a process group: SIGTERM, and SIGKILL for what is left after ``grace`` seconds."""
    deadline = time.monotonic() + grace
    try:
        os.killpg(group, signal.SIGTERM)
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # No process is left. macOS raises PermissionError for a group of zombies.
        return
