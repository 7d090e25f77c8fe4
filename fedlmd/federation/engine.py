"""Starts, watches and follows Flower's processes: the server's (SuperLink, SuperExec) and a worker's (SuperNode)."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlmd.federation.events import EventLog, follow_events
from fedlmd.federation.processes import Child, flower_environment, program

__all__ = ["EngineError", "RunStatus", "ServerEngine", "WorkerEngine", "forget_run_id", "has_run_id"]

FAB = Path(__file__).parent / "fab"
LINK = "fedlmd"
RUN_FILE = "flower.json"
# Seconds that a run may take to start before Flower is asked for it, and between two such questions.
PATIENCE = 15.0
# Seconds that Flower's command line, which usually takes 2, may take on a busy machine. A run whose start was given up
# too early could start all the same.
ANSWER_SECONDS = 180.0


class EngineError(RuntimeError):
    """Flower's processes did not do what they should; the text says what, and where their log is."""


@dataclass(frozen=True)
class RunStatus:
    """What Flower says of a run.

    Args:
        status: "pending", "starting", "running", "finished:completed", "finished:failed" or "finished:stopped".
        details: its reason, or "".
    """

    status: str
    details: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.status.startswith("finished")


class ServerEngine:
    """Flower's server on this machine.

    Args:
        home: folder of the node; gets ``flower/`` (Flower's state) and ``logs/``.
        host: address that workers reach the server at.
        port: its port.
    """

    def __init__(self, home: Path, host: str, port: int) -> None:
        self.home, self.host, self.port = home.absolute(), host, port
        self.environment = flower_environment(self.home, host)
        self._children: list[Child] = []

    def start(self, timeout: float = 60.0) -> None:
        """Start the server's processes and return when they answer.

        Raises:
            EngineError: when the port is taken, or nothing answers within ``timeout`` seconds.
        """
        check_port(self.host, self.port)
        secret = self._prepare()
        here = f"{self.local_host}:{self.port}"
        link = [program("flower-superlink"), "--insecure", "--host", self.host, "--port", str(self.port)]
        link += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
        link += ["--database", str(self.home / "flower" / "state.db"), "--disable-runtime-dependency-installation"]
        executor = [program("flower-superexec"), "--insecure", "--runtime-api-address", here]
        executor += ["--superexec-auth-secret-file", str(secret)]
        self._launch("superlink", link)
        try:
            self._wait_for_health(timeout)
        except EngineError:
            self.stop()
            raise
        self._launch("superexec", executor)

    def stop(self) -> None:
        """End the server's processes and the runs that they carry out."""
        for child in reversed(self._children):
            child.stop()
        self._children.clear()

    @property
    def local_host(self) -> str:
        """The address at which this machine reaches the server."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "") else self.host  # noqa: S104 - compared, not bound

    @property
    def pids(self) -> dict[str, int | None]:
        """Process ids by the programs' names."""
        return {child.log.stem: child.pid for child in self._children}

    def submit(self, run_dir: Path, app: Path = FAB) -> str:
        """Start the run whose plan lies in a folder; returns Flower's id for it. Takes about 2 seconds.

        Args:
            run_dir: the run's folder.
            app: folder of the Flower app that carries it out, which finds the run's folder as "run-dir" in its config.

        Raises:
            EngineError: when Flower does not take the run.
        """
        run_dir = run_dir.absolute()
        # A file, because Flower's own parser of settings on the command line stumbles over quotation marks in a path.
        # JSON's strings are TOML's basic strings.
        settings = run_dir / "flower.toml"
        settings.write_text(f"run-dir = {json.dumps(str(run_dir), ensure_ascii=False)}\n", encoding="utf-8")
        answer = self._flwr("run", str(app), LINK, "--run-config", str(settings))
        run_id = str(answer["run-id"])
        (run_dir / RUN_FILE).write_text(json.dumps({"run-id": run_id}) + "\n", encoding="utf-8")
        return run_id

    def stop_run(self, run_dir: Path) -> None:
        """Stop the run in a folder; its processes are gone some seconds later.

        Raises:
            EngineError: when Flower does not know the run.
        """
        run_id, events = read_run_id(run_dir), EventLog(run_dir)
        # First, so that the run's process, which fails when Flower turns its back on it, does not have the last word.
        if not events.final():
            events.append("stopped", reason="the run was stopped")
        self._flwr("stop", run_id, LINK)

    def status(self, run_dir: Path) -> RunStatus:
        """What Flower says of the run in a folder. Costs a second of processor time: ask rarely. Raises EngineError."""
        runs = self._flwr("ls", LINK, "--run-id", read_run_id(run_dir))["runs"]
        if not runs:
            raise EngineError(f"Flower does not know the run in {run_dir}")
        return RunStatus(str(runs[0]["status"]), str(runs[0].get("status-details") or ""))

    def follow(self, run_dir: Path, silence: float = 3.0) -> Iterator[dict[str, Any]]:
        """Yield a run's events as they come, up to and with the one that ends it: finished, failed or stopped.

        When the run's process died without a last word, that event is written here.

        Args:
            run_dir: the run's folder.
            silence: seconds without an event after which the process is looked for.
        """
        events, asked = EventLog(run_dir), time.monotonic()
        for event in follow_events(events.path, silence):
            if event is not None:
                yield event
            elif not events.is_held() and (events.has_started() or time.monotonic() - asked > PATIENCE):
                asked = time.monotonic()
                self._settle(run_dir, events)

    def _settle(self, run_dir: Path, events: EventLog) -> None:
        """Write the last event of a run whose process is not there, unless it is still to come."""
        # The process may have ended well just now: it writes its last event before it lets the diary go.
        if events.final():
            return
        events.mend()
        started, status = events.has_started(), RunStatus("unknown")
        try:
            status = self.status(run_dir)
            if started and not status.finished:
                self._flwr("stop", read_run_id(run_dir), LINK)
        except EngineError as error:
            status = RunStatus(status.status, str(error))
        if started or status.finished:
            reason = f"the run's process ended without a last word; Flower says {status.status} ({status.details})"
            # On a disk without room for this line the next look tries again.
            with suppress(OSError):
                events.append("failed", reason=reason, kind="ProcessDied")

    def _prepare(self) -> Path:
        flower = self.home / "flower"
        flower.mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        config = f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\naddress = "{self.local_host}:{self.port}"\n'
        (flower / "config.toml").write_text(config + "insecure = true\n", encoding="utf-8")
        secret = flower / "superexec.secret"
        if not secret.exists():
            secret.touch(mode=0o600)
            secret.write_bytes(secrets.token_bytes(32))
        return secret

    def _launch(self, name: str, command: list[str]) -> None:
        child = Child(command, self.environment, self.home / "logs" / f"{name}.log", self.home)
        self._children.append(child)
        child.start()

    def _wait_for_health(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        link = self._children[0]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while time.monotonic() < deadline:
            try:
                with opener.open(f"http://{self.local_host}:{self.port}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            if link.starts > 2:
                break
        raise EngineError(f"Flower's server does not answer; {link.log} ends with: {link.last_words()}")

    def _flwr(self, *arguments: str) -> dict[str, Any]:
        """Run Flower's command line and read the JSON that it prints."""
        command = [program("flwr"), *arguments, "--format", "json"]
        try:
            done = subprocess.run(
                command,
                env=self.environment,
                cwd=self.home,
                capture_output=True,
                text=True,
                timeout=ANSWER_SECONDS,
                check=False,
            )
            answer: dict[str, Any] = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise EngineError(f"flwr {arguments[0]} gave no answer ({error})") from None
        if not answer.get("success", False):
            raise EngineError(f"flwr {arguments[0]} failed: {answer.get('error-message', done.stderr.strip())}")
        return answer


class WorkerEngine:
    """Flower's worker on this machine.

    Args:
        home: folder of the node; gets ``flower/`` and ``logs/``.
        name: the worker's name, which events and releases show; without quotation marks.
        superlink: "host:port" of the server.
        port: port of the worker's own processes, on this machine only.
        trainer: variables that name the warm trainer, from ``TrainerClient.environment``.
    """

    def __init__(self, home: Path, name: str, superlink: str, port: int, trainer: Mapping[str, str]) -> None:
        self.home, self.name, self.superlink, self.port = home.absolute(), name, superlink, port
        if '"' in name or "\\" in name:
            raise EngineError(f"the worker's name {name!r} must be without quotation marks and backslashes")
        self.environment = {**flower_environment(self.home, superlink.rpartition(":")[0]), **trainer}
        self._child: Child | None = None

    def start(self) -> None:
        """Start the worker's processes. They look for the server until it is there. Raises EngineError."""
        check_port("127.0.0.1", self.port)
        (self.home / "flower").mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        command = [program("flower-supernode"), "--insecure", "--superlink", self.superlink]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--node-config", f'name="{self.name}"']
        self._child = Child(command, self.environment, self.home / "logs" / "supernode.log", self.home)
        self._child.start()

    def stop(self) -> None:
        """End the worker's processes; it leaves the federation at once."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    @property
    def pid(self) -> int | None:
        """Process id of Flower's SuperNode, or None."""
        return self._child.pid if self._child else None


def read_run_id(run_dir: Path) -> str:
    """Flower's id of the run in a folder. Raises EngineError when it was never submitted."""
    try:
        return str(json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))["run-id"])
    except FileNotFoundError:
        raise EngineError(f"the run in {run_dir} was not submitted") from None


def has_run_id(run_dir: Path) -> bool:
    """Whether Flower took the run in a folder."""
    return (run_dir / RUN_FILE).exists()


def forget_run_id(run_dir: Path) -> None:
    """Forget Flower's id of a run before it is submitted again, so that its old end is not taken for a new one."""
    (run_dir / RUN_FILE).unlink(missing_ok=True)


def check_port(host: str, port: int) -> None:
    """Raise EngineError when a port cannot be listened at."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EngineError(f"port {port} of {host} cannot be used ({error.strerror}); choose another") from None
