"""One node: its trainer, releases, drift watch and Flower's processes behind the REST service."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from fedlmd.calibration import DriftReport
from fedlmd.federation.flower.engine import ServerEngine
from fedlmd.federation.flower.worker_engine import WorkerEngine
from fedlmd.inference import Prediction
from fedlmd.node.config import NodeConfig
from fedlmd.node.drift import PersistentDriftWatch
from fedlmd.node.releases import LoadedReleases
from fedlmd.node.runs import ServerRuns
from fedlmd.node.trainer import Trainer
from fedlmd.progress import Progress, Work
from fedlmd.release import VERDICT
from fedlmd.service.app import create_app
from fedlmd.service.schema import TrainOrder
from fedlmd.service.server import serve
from fedlmd.settings import to_mapping

log = logging.getLogger(__name__)


class Node:
    """One node: trainer, releases and Flower's processes. Implements ``fedlmd.service.contract.Host``.

    Args:
        config: of the node.
    """

    def __init__(self, config: NodeConfig) -> None:
        self.config, self.name, self.role = config, config.name, config.role
        for folder in (config.data, config.releases, config.runs, config.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.releases = LoadedReleases(config.releases, config.name)
        self.watch = PersistentDriftWatch(config.home / "drift.json")
        self.trainer = Trainer(config)
        self.engine: ServerEngine | WorkerEngine
        self.runs: ServerRuns | None = None
        if config.role == "server":
            host, _, port = config.superlink.rpartition(":")
            self.engine = ServerEngine(config.home, host, int(port))
            self.runs = ServerRuns(self.engine, config)
        else:
            environment = self.trainer.environment
            self.engine = WorkerEngine(config.home, config.name, config.superlink, config.flower_port, environment)

    def start(self) -> None:
        """Start the processes. A server's trainer starts at its first local training."""
        if self.role == "worker":
            self.trainer.start()
        self.engine.start()
        if self.runs is not None:
            self.runs.resume_watching()

    def stop(self) -> None:
        """Stop all processes."""
        self.watch.save()
        self.engine.stop()
        self.trainer.stop()

    @property
    def progress(self) -> Progress | None:
        """What the trainer does; None when it is idle."""
        return self.trainer.progress()

    @property
    def watched(self) -> DriftReport | None:
        """State of the current release's drift watch; None before one has begun."""
        return self.watch.look(self.releases.current)

    def observe(self, prediction: Prediction, calibrated_on: int, image: bytes) -> None:
        """Count a prediction in the drift watch, where the current release made it."""
        if prediction.release == self.releases.current:
            self.watch.observe(prediction.release, calibrated_on, prediction.p_value, image)

    def drift(self) -> DriftReport:
        """State of the current release's drift watch."""
        return self.watch.report(*self.watchable())

    def reset_drift(self) -> DriftReport:
        """Acknowledge the alarm and watch the current release anew."""
        return self.watch.reset(*self.watchable())

    def watchable(self) -> tuple[str, int]:
        """Id of the current release, and on how many images it was calibrated."""
        predictor = self.releases.predictor(None)
        return predictor.release.id, predictor.references[VERDICT].count

    def train(self, order: TrainOrder) -> Work:
        """Train on the node's own images, in the trainer's process."""
        settings = self.config.settings.with_labels(tuple(order.labels_list))
        if order.seed is not None:
            settings = replace(settings, seed=order.seed)
        sources = {"training": order.training, "evaluation": order.evaluation}
        return self.trainer.work("alone", {"settings": to_mapping(settings), **sources})


def run(config: NodeConfig) -> None:
    """Run a node until SIGINT or SIGTERM.

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
