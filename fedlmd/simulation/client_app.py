"""A simulated worker's Flower app: one worker for each node, cached in each process that its messages reach."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlmd.federation.messages import Reply, pack_reply, pack_weights, unpack_request, unpack_weights
from fedlmd.federation.trainer.server import sentence
from fedlmd.progress import Result, drain
from fedlmd.worker.state import ClientState

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedlmd.data import LabelledImages, Split
    from fedlmd.worker.worker import Worker


CACHED_WORKERS = 256
"""Number of workers whose share of the data a process keeps in memory: those that were used last."""

# Key of a worker's scores in Flower's state of its node.
SCORES = "scores"

log = logging.getLogger(__name__)


def client_app(data: str, states: Path) -> ClientApp:
    """The app of all simulated workers.

    Args:
        data: the run's ``[data]`` settings as JSON; the node's partition is the worker's share of it.
        states: folder that gets one folder for each worker's client state.
    """
    app = ClientApp()

    @app.train()
    @app.query()
    def handle(message: Message, context: Context) -> Message:
        return reply_to(message, context, data, states)

    return app


def reply_to(message: Message, context: Context, data: str, states: Path) -> Message:
    """Reply to one message; where the worker fails, the reply has the error."""
    number = int(context.node_config["partition-id"])
    name = f"worker-{number}"
    try:
        worker = worker_of(number, data)
        # Read from disk: the worker's last message may have reached another process.
        worker.state = ClientState(states / name)
        result = handled(message, context, worker)
    except Exception as error:
        log.exception("%s failed", name)
        return pack_reply(message, Reply(name, error=sentence(error)))
    return pack_reply(message, Reply(name, result.metrics, result.weights))


def handled(message: Message, context: Context, worker: Worker) -> Result:
    """The result of a message's request, whatever process the worker's last message reached."""
    request = unpack_request(message)
    if SCORES in context.state:
        worker.scores.load(unpack_weights(context.state.array_records[SCORES]))
    result = drain(worker.handle(request.action, request.config, request.weights))
    if worker.scores.scores:
        context.state[SCORES] = pack_weights(worker.scores.arrays)
    return result


@lru_cache(maxsize=CACHED_WORKERS)
def worker_of(number: int, data: str) -> Worker:
    """A worker by its number. All workers of a process share one copy of the source that they divide."""
    from fedlmd.settings import from_mapping  # noqa: PLC0415 - imports torch
    from fedlmd.worker.images import WorkerConfig  # noqa: PLC0415 - imports torch
    from fedlmd.worker.worker import Worker  # noqa: PLC0415 - imports torch

    return Worker(
        WorkerConfig(f"worker-{number}", from_mapping({"data": json.loads(data)}).data, number, load=sources())
    )


@lru_cache(maxsize=1)
def sources() -> Callable[..., LabelledImages]:
    """``fedlmd.data.load`` with a cache of the splits of a source, which workers divide; latents are not cached."""
    from fedlmd.data import load, partition  # noqa: PLC0415 - imports torch

    whole = lru_cache(maxsize=4)(load)

    def share_of(source: str, split: Split, **form: Any) -> LabelledImages:  # noqa: ANN401 - those of ``load``
        if form.get("encode") is not None:
            return load(source, split, **form)
        share, _, _ = form.pop("share", None), form.pop("only", ()), form.pop("encode")
        images = whole(source, split, **form)
        return images if share is None else partition(images, form["config"].partition, share)

    return share_of
