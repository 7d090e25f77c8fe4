"""Starts and stops Flower's processes of a worker: the SuperNode, which starts a process for every message."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fedlmd.federation.announcement import name_problem
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import EngineError, SupervisedProcess, check_port, flower_environment, program


class WorkerEngine:
    """Flower's worker on this machine.

    Args:
        home: folder of the node; gets ``flower/`` and ``logs/``.
        name: the worker's name, which events and releases show; see ``name_problem``.
        superlink: "host:port" of the server; see ``Address``.
        port: port of the worker's own processes, on this machine only.
        trainer: environment variables that name the warm trainer, from ``TrainerClient.environment``.
    """

    def __init__(self, home: Path, name: str, superlink: str, port: int, trainer: Mapping[str, str]) -> None:
        self.home, self.name, self.superlink, self.port = home.absolute(), name, superlink, port
        if problem := name_problem(name):
            raise EngineError(problem)
        self.environment = {**flower_environment(self.home, Address.parse(superlink).host), **trainer}
        self._process: SupervisedProcess | None = None

    def check(self) -> None:
        """Raise EngineError when the worker's own port is in use."""
        check_port("127.0.0.1", self.port)

    def start(self) -> None:
        """Start the worker's processes. They try to connect until the server is up. Raises EngineError."""
        self.check()
        (self.home / "flower").mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        command = [program("flower-supernode"), "--insecure", "--superlink", self.superlink]
        command += ["--host", "127.0.0.1", "--port", str(self.port), "--node-config", f'name="{self.name}"']
        self._process = SupervisedProcess(command, self.environment, self.home / "logs" / "supernode.log", self.home)
        self._process.start()

    def stop(self) -> None:
        """End the worker's processes; it leaves the federation at once."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    @property
    def pid(self) -> int | None:
        """Process id of Flower's SuperNode, or None."""
        return self._process.pid if self._process else None
