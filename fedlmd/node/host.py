"""A node at work: what its REST service may ask of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from fedlmd.answer import VERDICT, Answer, Answerer
from fedlmd.detection import DriftReport
from fedlmd.federation.engine import ServerEngine, WorkerEngine
from fedlmd.node.config import NodeConfig
from fedlmd.node.drift import KeptWatch
from fedlmd.node.releases import Shelf
from fedlmd.node.runs import ServerRuns
from fedlmd.node.trainer import Trainer
from fedlmd.progress import Progress, Result
from fedlmd.service import ReleaseSummary, Role, TrainRequest, create_app, serve
from fedlmd.settings import to_mapping

__all__ = ["Node", "run"]

log = logging.getLogger(__name__)


class Node:
    """One node: trainer, releases and Flower's processes. Implements ``fedlmd.service.Host``.

    Args:
        config: its place in the cluster.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        for folder in (config.data, config.releases, config.runs, config.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.shelf = Shelf(config.releases, config.name)
        self.watch = KeptWatch(config.home / "drift.json")
        self.trainer = Trainer(config)
        host, _, port = config.superlink.rpartition(":")
        self.engine: ServerEngine | WorkerEngine
        self.server_runs: ServerRuns | None = None
        if config.role == "server":
            self.engine = ServerEngine(config.home, host, int(port))
            self.server_runs = ServerRuns(self.engine, config)
        else:
            environment = self.trainer.environment
            self.engine = WorkerEngine(config.home, config.name, config.superlink, config.flower_port, environment)

    def start(self) -> None:
        """Start the processes. A server trains only when it is asked to, so its trainer starts then."""
        if self.config.role == "worker":
            self.trainer.start()
        self.engine.start()
        if self.server_runs is not None:
            self.server_runs.resume_watching()

    def stop(self) -> None:
        """End all processes."""
        self.watch.save()
        self.engine.stop()
        self.trainer.stop()

    @property
    def name(self) -> str:
        """The node's name."""
        return self.config.name

    @property
    def role(self) -> Role:
        """The node's role."""
        return self.config.role

    @property
    def current(self) -> str | None:
        """Id of the current release."""
        return self.shelf.current

    @property
    def progress(self) -> Progress | None:
        """What the trainer is at, or None when it rests."""
        return self.trainer.progress()

    def answerer(self, release: str | None) -> Answerer:
        """The answerer of a release."""
        return self.shelf.answerer(release)

    def releases(self) -> list[ReleaseSummary]:
        """The releases that the node holds."""
        return self.shelf.summaries()

    def use(self, release: str) -> None:
        """Make a release the current one."""
        self.shelf.use(release)

    @property
    def watched(self) -> DriftReport | None:
        """How the drift watch of the current release stands; None before one has begun."""
        return self.watch.look(self.current)

    def observe(self, answer: Answer, calibrated_on: int, image: bytes) -> None:
        """Count an answer in the drift watch, where the current release gave it."""
        if answer.release == self.current:
            self.watch.observe(answer.release, calibrated_on, answer.p_value, image)

    def drift(self) -> DriftReport:
        """How the drift watch of the current release stands."""
        return self.watch.report(*self.watchable())

    def reset_drift(self) -> DriftReport:
        """Acknowledge the alarm and watch the current release anew."""
        return self.watch.reset(*self.watchable())

    def watchable(self) -> tuple[str, int]:
        """Id of the current release, and on how many images it was calibrated."""
        answerer = self.shelf.answerer(None)
        return answerer.release.id, answerer.sketches[VERDICT].count

    def train(self, request: TrainRequest) -> Iterator[Progress | Result]:
        """Train on the node's own images, in the trainer's process."""
        settings = self.config.settings.with_labels(request.labels)
        if request.seed is not None:
            settings = replace(settings, seed=request.seed)
        config: dict[str, Any] = {"settings": to_mapping(settings)}
        return self.trainer.work("alone", {**config, "training": request.training, "evaluation": request.evaluation})

    def runs(self) -> ServerRuns | None:
        """The federated runs; None on a worker."""
        return self.server_runs


def run(config: NodeConfig) -> None:
    """Be a node until SIGINT or SIGTERM comes.

    Raises:
        OSError: when the REST service's port is taken.
        EngineError: when Flower does not start.
    """
    torch.set_num_threads(config.threads)
    node = Node(config)
    try:
        node.start()
        log.info("%s %s answers at http://%s:%d", config.role, config.name, config.host, config.port)
        serve(create_app(node), config.host, config.port)
    finally:
        node.stop()
