"""The node's trainer process: start, stop and calls."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedlmd.federation.flower.processes import SupervisedProcess, flower_environment
from fedlmd.federation.trainer.client import TrainerBusy, TrainerClient, TrainerError, TrainerUnreachable
from fedlmd.node.config import NodeConfig
from fedlmd.progress import Progress, Work
from fedlmd.service.contract import Busy, Refused, Unavailable
from fedlmd.settings import to_mapping
from fedlmd.worker.handler import WORKER

# Importing torch takes seconds, on a busy machine many.
START_SECONDS = 90.0


class Trainer:
    """Starts the trainer's process and calls it.

    Args:
        config: of the node.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        # The path of a Unix socket must be short, so it is not in the node's home.
        self.folder = tempfile.TemporaryDirectory(prefix="fedlmd-")
        self.client = TrainerClient(Path(self.folder.name) / "trainer.sock", secrets.token_bytes(32))
        self.process: SupervisedProcess | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment by which Flower's processes find the trainer and the worker's configuration."""
        worker = {
            "name": self.config.name,
            "settings": {"data": to_mapping(self.config.settings)["data"]},
            "worker": self.config.worker,
            "root": str(self.config.data),
            "releases": str(self.config.releases),
            "state": str(self.config.home / "state"),
        }
        return {**self.client.environment(), WORKER: json.dumps(worker), "FEDLMD_THREADS": str(self.config.threads)}

    def start(self) -> None:
        """Start the process; it accepts calls some seconds later."""
        if self.process is None:
            environment = {**flower_environment(self.config.home, "127.0.0.1"), **self.environment}
            environment["OMP_NUM_THREADS"] = str(self.config.threads)
            log = self.config.logs / "trainer.log"
            command = [sys.executable, "-m", "fedlmd.worker.trainer_process"]
            self.process = SupervisedProcess(command, environment, log, self.config.home, answers=self.client.answers)
            self.process.start()

    def stop(self) -> None:
        """Stop the process."""
        if self.process is not None:
            self.process.stop()
            self.process = None
        self.folder.cleanup()

    def progress(self) -> Progress | None:
        """What the trainer does; None when it is idle."""
        try:
            status = self.client.status(timeout=0.5)
        except TrainerError:
            return None
        return (status.progress or Progress(str(status.action), 0, 1)) if status.busy else None

    def work(self, action: str, config: Mapping[str, Any]) -> Work:
        """Run an action in the trainer; raises at the call when it is busy.

        Raises:
            Busy: when it is busy.
            Unavailable: when it does not start.
            Refused: when it refuses the action.
        """
        self.start()
        if self.progress() is not None:
            raise Busy("this node's trainer is at work; try again when it is done")
        return self.steps(action, config)

    def steps(self, action: str, config: Mapping[str, Any]) -> Work:
        """The steps of a call, with its errors as those of the service."""
        try:
            self.client.wait(START_SECONDS)
            return (yield from self.client.call(action, config, {}))
        except TrainerBusy as error:
            raise Busy(str(error)) from None
        except TrainerUnreachable as error:
            raise Unavailable(f"{error}; its log is {self.config.logs / 'trainer.log'}") from None
        except TrainerError as error:
            raise Refused(str(error)) from None
