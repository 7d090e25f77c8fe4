"""What a worker's node does beside its REST service: it checks its images, announces itself, takes part in runs."""

from __future__ import annotations

import secrets
import time
from functools import partial
from importlib.metadata import version
from typing import final

from fedlmd.federation.announcement import LONGEST_SENTENCE, Announcement
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import side_by_side
from fedlmd.federation.flower.worker_engine import WorkerEngine
from fedlmd.node.config import NodeConfig
from fedlmd.node.connection import ServerConnection
from fedlmd.node.own_images import CHECKING, ImagesCheck, check_images
from fedlmd.node.trainer import Trainer
from fedlmd.service.participants import ConnectionBody, DataBody


@final
class Participant:
    """A worker as its server sees it.

    Flower's processes of the worker start once its images can be used and the server accepts it. Predictions and local
    trainings need neither.

    Args:
        config: of the node.
        trainer: the node's trainer.

    Raises:
        ValueError: when the server's address or the worker's name has another form than they may have.
    """

    def __init__(self, config: NodeConfig, trainer: Trainer) -> None:
        self.config, self.trainer = config, trainer
        self.instance = secrets.token_hex(8)
        self.version, self.flower = version("fedlmd"), version("flwr")
        address = Address.parse(config.superlink)
        self.engine = WorkerEngine(config.home, config.name, str(address), config.flower_port, trainer.environment)
        self.server = ServerConnection(address, self.engine, self.describe)
        self.images = ImagesCheck(partial(check_images, config), self.server.announce_soon)

    def start(self) -> None:
        """Start to check the images, and to announce the worker. Raises EngineError when its own port is in use."""
        self.engine.check()
        self.images.start()
        self.server.start()

    def stop(self) -> None:
        """Take part in no more runs, and let the server know."""
        self.images.stop()
        side_by_side(self.server.stop, self.server.leave)

    def describe(self) -> Announcement:
        """The worker's state as it is now."""
        images, progress = self.images.result, self.trainer.progress()
        labels, facts = images.announced(self.config.settings.data)
        problem = CHECKING if images.state == "checking" else images.problem
        doing = {"stage": progress.stage, "done": progress.done, "total": progress.total} if progress else None
        return Announcement(
            name=self.config.name,
            instance=self.instance,
            version=self.version,
            flower=self.flower,
            clock=time.time(),
            labels=labels,
            images=facts,
            problem=problem and problem[:LONGEST_SENTENCE],
            doing=doing,
        )

    @property
    def data(self) -> DataBody:
        """State of the worker's own images."""
        images = self.images.result
        return DataBody(state=images.state, problem=images.problem, labels=images.labels, notes=list(images.notes))

    @property
    def connection(self) -> ConnectionBody:
        """How the worker stands with its server."""
        now = self.server.now
        return ConnectionBody(server=str(self.server.address), state=now.state, reason=now.reason, since=now.since)
