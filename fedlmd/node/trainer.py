"""The node's warm trainer, as the node sees it."""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedlmd.federation.processes import Child, flower_environment
from fedlmd.federation.wire import TrainerBusy, TrainerClient, TrainerError, TrainerUnreachable
from fedlmd.learner import SITE
from fedlmd.node.config import NodeConfig
from fedlmd.progress import Progress, Result
from fedlmd.service import Busy, Refused, Unavailable
from fedlmd.settings import to_mapping

__all__ = ["Trainer"]

# Importing torch takes seconds, on a busy machine many.
START_SECONDS = 90.0


class Trainer:
    """Starts the trainer's process and hands it work.

    Args:
        config: the node's.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        # Unix sockets take short paths only, so this one does not lie in the node's home.
        self.folder = tempfile.TemporaryDirectory(prefix="fedlmd-")
        self.client = TrainerClient(Path(self.folder.name) / "trainer.sock", secrets.token_bytes(32))
        self.child: Child | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What Flower's processes need to find the trainer, and to work without it when they are told to."""
        site = {
            "name": self.config.name,
            "settings": {"data": to_mapping(self.config.settings)["data"]},
            "worker": self.config.worker,
            "root": str(self.config.data),
            "releases": str(self.config.releases),
            "memory": str(self.config.memory),
        }
        return {**self.client.environment(), SITE: json.dumps(site), "FEDLMD_THREADS": str(self.config.threads)}

    def start(self) -> None:
        """Start the process; it is ready some seconds later."""
        if self.child is None:
            environment = {**flower_environment(self.config.home, "127.0.0.1"), **self.environment}
            environment["OMP_NUM_THREADS"] = str(self.config.threads)
            log = self.config.logs / "trainer.log"
            command = [sys.executable, "-m", "fedlmd.federation.warm"]
            self.child = Child(command, environment, log, self.config.home, answers=self.client.answers)
            self.child.start()

    def stop(self) -> None:
        """End the process."""
        if self.child is not None:
            self.child.stop()
            self.child = None
        self.folder.cleanup()

    def progress(self) -> Progress | None:
        """What the trainer is at, or None when it rests."""
        try:
            status = self.client.status(timeout=0.5)
        except TrainerError:
            return None
        return (status.progress or Progress(str(status.action), 0, 1)) if status.busy else None

    def work(self, action: str, config: Mapping[str, Any]) -> Iterator[Progress | Result]:
        """Let the trainer do something; refused at the call when it is busy.

        Raises:
            Busy: when it is at work.
            Unavailable: when it does not start.
            Refused: when it says that it cannot be done.
        """
        self.start()
        if self.progress() is not None:
            raise Busy("this node's trainer is at work; ask again when it is done")
        return self.steps(action, config)

    def steps(self, action: str, config: Mapping[str, Any]) -> Iterator[Progress | Result]:
        """The steps of a call, its errors in the service's words."""
        try:
            self.client.wait(START_SECONDS)
            yield from self.client.call(action, config, {})
        except TrainerBusy as error:
            raise Busy(str(error)) from None
        except TrainerUnreachable as error:
            raise Unavailable(f"{error}; its log is {self.config.logs / 'trainer.log'}") from None
        except TrainerError as error:
            raise Refused(str(error)) from None
