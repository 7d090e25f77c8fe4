"""One node: its trainer, releases, drift watch and Flower's processes behind the REST service."""

from __future__ import annotations

import gc
import logging
from dataclasses import asdict, replace

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import DriftReport
from fedlmd.federation.announcement import name_problem
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.engine import ServerEngine
from fedlmd.federation.flower.processes import EngineError, side_by_side
from fedlmd.inference import NearestImage, Prediction, Predictor
from fedlmd.node.config import NodeConfig
from fedlmd.node.drift import PersistentDriftWatch
from fedlmd.node.nearest import OwnNearestImages
from fedlmd.node.participant import Participant
from fedlmd.node.releases import LoadedReleases
from fedlmd.node.runs import ServerRuns
from fedlmd.node.trainer import Trainer
from fedlmd.progress import Progress, Work
from fedlmd.release import VERDICT
from fedlmd.service.app import create_app
from fedlmd.service.contract import Unavailable
from fedlmd.service.participants import ConnectionBody, DataBody, WorkerBody
from fedlmd.service.schema import TrainOrder
from fedlmd.service.server import serve
from fedlmd.settings import to_mapping

log = logging.getLogger(__name__)

WORKERS_SECONDS = 2.0
"""So long Flower's server may take to list its workers."""


class Node:
    """One node: trainer, releases and Flower's processes. Implements ``fedlmd.service.contract.Host``.

    Args:
        config: of the node.

    Raises:
        ValueError: when the address of Flower's server, or a worker's name, has another form than it may have.
    """

    def __init__(self, config: NodeConfig) -> None:
        address = Address.parse(config.superlink)
        if config.role == "worker" and (problem := name_problem(config.name)):
            raise ValueError(problem)
        self.config, self.name, self.role = config, config.name, config.role
        # Another data root than that of the home is not created: it may be mounted late, or be misspelt.
        own = (config.data,) if config.data.is_relative_to(config.home) else ()
        for folder in (*own, config.releases, config.runs, config.logs):
            folder.mkdir(parents=True, exist_ok=True)
        self.releases = LoadedReleases(config.releases, config.name)
        self.watch = PersistentDriftWatch(config.home / "drift.json")
        self.trainer = Trainer(config)
        self.own_nearest = OwnNearestImages(config)
        self.engine: ServerEngine | None = None
        self.runs: ServerRuns | None = None
        self.participant: Participant | None = None
        if config.role == "server":
            self.engine = ServerEngine(config.home, address.host, address.port)
            self.runs = ServerRuns(self.engine, config)
        else:
            self.participant = Participant(config, self.trainer)

    def start(self) -> None:
        """Start the processes. A server's trainer starts at its first local training."""
        if self.participant is not None:
            self.trainer.start()
            self.participant.start()
        if self.engine is not None and self.runs is not None:
            self.engine.start()
            self.runs.resume_watching()

    def stop(self) -> None:
        """Stop all processes, side by side."""
        self.watch.save()
        others = [part.stop for part in (self.participant, self.engine) if part is not None]
        side_by_side(self.trainer.stop, *others)

    @property
    def data(self) -> DataBody | None:
        """State of a worker's own images; None at a server."""
        return None if self.participant is None else self.participant.data

    @property
    def connection(self) -> ConnectionBody | None:
        """How a worker stands with its server; None at a server."""
        return None if self.participant is None else self.participant.connection

    def workers(self) -> list[WorkerBody] | None:
        """The workers that announced themselves within the last hour; None at a worker. Raises Unavailable."""
        if self.engine is None:
            return None
        try:
            workers = self.engine.workers(timeout=WORKERS_SECONDS)
        except EngineError as error:
            raise Unavailable(str(error)) from None
        return [WorkerBody.model_validate(asdict(worker)) for worker in workers]

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

    def nearest(self, predictor: Predictor, image: Float[Tensor, "1 c h w"]) -> list[NearestImage]:
        """The worker's own training images that are nearest to an image, where its settings allow that."""
        return self.own_nearest.nearest(predictor, image)

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
        # The end of the process need not look through all objects once more, which takes seconds on a busy machine.
        gc.freeze()
