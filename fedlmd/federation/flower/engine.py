"""Starts, watches and follows Flower's processes of a server: the SuperLink and the SuperExec."""

from __future__ import annotations

import secrets
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedlmd.federation.events import EventLog, follow_events
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.announcements import token_of
from fedlmd.federation.flower.processes import (
    EngineError,
    SupervisedProcess,
    check_port,
    flower_environment,
    program,
    side_by_side,
)
from fedlmd.federation.flower.requests import list_workers
from fedlmd.federation.flower.run_commands import LINK, RunCommands, RunStatus, read_run_id
from fedlmd.federation.worker_list import AnnouncedWorker

FAB = Path(__file__).parent / "fab"
# Seconds that a run may take to start before Flower is asked for its status, and between two such calls.
START_SECONDS = 15.0


class ServerEngine:
    """Flower's server on this machine.

    Args:
        home: folder of the node; gets ``flower/`` (Flower's state) and ``logs/``.
        host: address at which workers reach the server; an IPv6 address stands without brackets.
        port: its port.
    """

    def __init__(self, home: Path, host: str, port: int) -> None:
        self.home, self.host, self.port = home.absolute(), host, port
        self.local = Address(host, port).local
        self.secret = self.home / "flower" / "superexec.secret"
        self.environment = flower_environment(self.home, host)
        self.commands = RunCommands(self.home, self.environment)
        self._processes: list[SupervisedProcess] = []

    def start(self, timeout: float = 60.0) -> None:
        """Start the server's processes and return when the server responds.

        Raises:
            EngineError: when the port is in use, or the server does not respond within ``timeout`` seconds.
        """
        check_port(self.host, self.port)
        self._prepare()
        superlink = [sys.executable, "-m", "fedlmd.federation.flower.superlink"]
        superlink += ["--insecure", "--host", self.host, "--port", str(self.port)]
        superlink += ["--isolation", "process", "--superexec-auth-secret-file", str(self.secret)]
        superlink += ["--database", str(self.home / "flower" / "state.db"), "--disable-runtime-dependency-installation"]
        superexec = [program("flower-superexec"), "--insecure", "--runtime-api-address", str(self.local)]
        superexec += ["--superexec-auth-secret-file", str(self.secret)]
        link = self._launch("superlink", superlink)
        try:
            self._wait_for_health(link, timeout)
        except EngineError:
            self.stop()
            raise
        self._launch("superexec", superexec)

    def stop(self) -> None:
        """End the server's processes and the runs that they carry out."""
        side_by_side(*[process.stop for process in self._processes])
        self._processes.clear()

    def workers(self, timeout: float = 5.0) -> list[AnnouncedWorker]:
        """The workers that announced themselves within the last hour, whether they are accepted or not.

        Args:
            timeout: seconds that Flower's server may take to respond.

        Raises:
            EngineError: when Flower's server does not respond.
        """
        try:
            secret = self.secret.read_bytes()
        except OSError as error:
            raise EngineError(f"{self.secret} cannot be read ({error.strerror}); start the server first") from None
        return list_workers(self.local, token_of(secret), timeout)

    @property
    def pids(self) -> dict[str, int | None]:
        """Process ids by the programs' names."""
        return {process.log.stem: process.pid for process in self._processes}

    def submit(self, run_dir: Path, app: Path = FAB) -> str:
        """Start the run whose plan is in a folder; returns Flower's id for it. Takes about 2 seconds.

        Args:
            run_dir: the run's folder.
            app: folder of the Flower app that carries it out, which gets the run's folder as "run-dir" in its config.

        Raises:
            EngineError: when Flower does not accept the run.
        """
        return self.commands.submit(run_dir, app)

    def stop_run(self, run_dir: Path) -> None:
        """Stop the run in a folder; its processes end some seconds later. No effect on one that Flower has ended.

        Raises:
            EngineError: when Flower does not know the run, or does not respond.
        """
        run_id, events = read_run_id(run_dir), EventLog(run_dir)
        # Before the run's process, which fails when Flower stops the run, can write a final event of its own.
        if not events.final():
            events.append("stopped", reason="the run was stopped")
        try:
            self.commands.stop(run_id)
        except EngineError:
            if not self.commands.status(run_dir).finished:
                raise

    def follow(self, run_dir: Path, silence: float = 3.0) -> Iterator[dict[str, Any]]:
        """Yield a run's events as they are written, up to and with the one that ends it: finished, failed or stopped.

        When the run's process died without a final event, that event is written here.

        Args:
            run_dir: the run's folder.
            silence: seconds without an event after which the process is checked.
        """
        events, checked = EventLog(run_dir), time.monotonic()
        for event in follow_events(events.path, silence):
            if event is not None:
                yield event
            elif not events.is_held() and (events.has_started() or time.monotonic() - checked > START_SECONDS):
                checked = time.monotonic()
                self._settle(run_dir, events)

    def _settle(self, run_dir: Path, events: EventLog) -> None:
        """Write the final event of a run whose process is gone, unless that may still write it."""
        # The process may just have ended well: it writes its final event before it releases the lock.
        if events.final():
            return
        events.mend()
        started, status = events.has_started(), RunStatus("unknown")
        try:
            status = self.commands.status(run_dir)
            if started and not status.finished:
                self.commands.stop(read_run_id(run_dir))
        except EngineError as error:
            status = RunStatus(status.status, str(error))
        if started or status.finished:
            reason = f"the run's process ended without a final event; Flower says {status.status} ({status.details})"
            # On a full disk the next check tries again.
            with suppress(OSError):
                events.append("failed", reason=reason, kind="ProcessDied")

    def _prepare(self) -> None:
        """Write Flower's configuration and the secret that Flower's processes of this server share."""
        flower = self.home / "flower"
        flower.mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        config = f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\naddress = "{self.local}"\n'
        (flower / "config.toml").write_text(config + "insecure = true\n", encoding="utf-8")
        if not self.secret.exists():
            self.secret.touch(mode=0o600)
            self.secret.write_bytes(secrets.token_bytes(32))

    def _launch(self, name: str, command: list[str]) -> SupervisedProcess:
        process = SupervisedProcess(command, self.environment, self.home / "logs" / f"{name}.log", self.home)
        self._processes.append(process)
        process.start()
        return process

    def _wait_for_health(self, link: SupervisedProcess, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            try:
                with opener.open(f"http://{self.local}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
            if link.starts > 2:
                break
        raise EngineError(f"Flower's server does not respond; {link.log} ends with: {link.log_tail()}")
