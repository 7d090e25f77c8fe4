"""A simulated worker's Flower app: one learner for each worker, kept warm in whichever process its messages reach."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlmd.federation.messages import Reply, pack_reply, pack_weights, unpack_request, unpack_weights
from fedlmd.federation.trainer import sentence
from fedlmd.memory import Memory
from fedlmd.progress import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedlmd.data import LabelledImages
    from fedlmd.learner import Learner

__all__ = ["LEARNERS", "answer", "client_app"]

LEARNERS = 256
"""Workers whose share of the data a process keeps in memory, those that were asked last."""

# What a worker remembers of its scores, in Flower's state of its node.
SCORES = "scores"

log = logging.getLogger(__name__)


def client_app(data: str, memory: Path) -> ClientApp:
    """The app of all simulated workers.

    Args:
        data: the run's ``[data]`` settings as JSON; the node's partition is the worker's share of it.
        memory: folder that gets one folder for each worker that keeps something from round to round.
    """
    app = ClientApp()

    @app.train()
    @app.query()
    def handle(message: Message, context: Context) -> Message:
        return answer(message, context, data, memory)

    return app


def answer(message: Message, context: Context, data: str, memory: Path) -> Message:
    """Answer one message; what the worker could not do is said in the reply."""
    number = int(context.node_config["partition-id"])
    name = f"worker-{number}"
    try:
        learner = learner_of(number, data)
        # Read anew: the worker's last message may have reached another process.
        learner.memory = Memory(memory / name)
        result = work(message, context, learner)
    except Exception as error:
        log.exception("%s could not answer", name)
        return pack_reply(message, Reply(name, error=sentence(error)))
    return pack_reply(message, Reply(name, result.metrics, result.weights))


def work(message: Message, context: Context, learner: Learner) -> Result:
    """Let a worker's learner do what a message asks for, whatever process its last message reached."""
    request = unpack_request(message)
    if SCORES in context.state:
        learner.found.recall(unpack_weights(context.state.array_records[SCORES]))
    *_, result = learner.handle(request.action, request.config, request.weights)
    if learner.found.scores:
        context.state[SCORES] = pack_weights(learner.found.memory)
    if not isinstance(result, Result):
        raise ValueError(f"{request.action!r} ended without a result")
    return result


@lru_cache(maxsize=LEARNERS)
def learner_of(number: int, data: str) -> Learner:
    """A worker's learner. All workers of a process share one copy of the source that they divide."""
    from fedlmd.learner import Learner  # noqa: PLC0415 - imports torch
    from fedlmd.settings import from_mapping  # noqa: PLC0415 - imports torch
    from fedlmd.site import Site  # noqa: PLC0415 - imports torch

    return Learner(Site(f"worker-{number}", from_mapping({"data": json.loads(data)}).data, number, load=sources()))


@lru_cache(maxsize=1)
def sources() -> Callable[..., LabelledImages]:
    """``fedlmd.data.load``, which remembers the splits of a source."""
    from fedlmd.data import load  # noqa: PLC0415 - imports torch

    return lru_cache(maxsize=4)(load)
