"""The worker's Flower app: unpack, ask the warm trainer, pack."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, cast

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlmd.federation.messages import SECONDS, Reply, Request, pack_reply, unpack_request
from fedlmd.federation.wire import TrainerClient, TrainerError
from fedlmd.progress import Progress, Result

if TYPE_CHECKING:
    from fedlmd.federation.trainer import Handler

__all__ = ["COLD", "answer", "app"]

# Set to 1, this variable lets every message's own process load models and data: only to measure what that costs.
COLD = "FEDLMD_COLD"

# A trainer that died is started again, and needs time to import what it works with.
START_SECONDS = 90.0

app = ClientApp()


@app.train()
@app.query()
def answer(message: Message, context: Context) -> Message:
    """Answer one message; what the trainer could not do is said in the reply."""
    worker = str(context.node_config.get("name", context.node_id))
    try:
        result = ask(unpack_request(message))
    except (TrainerError, ValueError) as error:
        return pack_reply(message, Reply(worker, error=str(error)))
    return pack_reply(message, Reply(worker, result.metrics, result.weights))


def ask(request: Request) -> Result:
    """The result of a request, from the warm trainer or, in cold mode, from this process itself.

    Raises:
        TrainerError: when the trainer fails, or has not finished when the server stops waiting for it.
    """
    seconds = float(request.config.get(SECONDS, math.inf))
    deadline = time.monotonic() + seconds
    work = handler(min(seconds, START_SECONDS))(request.action, request.config, request.weights)
    with closing(cast("Generator[Progress | Result, None, None]", work)):
        for item in work:
            if isinstance(item, Result):
                return item
            if time.monotonic() > deadline:
                # Nobody waits for the update any more, and the next round's message stands behind this one.
                raise TrainerError(f"{request.action!r} was stopped after {seconds:g} seconds")
    raise TrainerError(f"{request.action!r} ended without a result")


def handler(patience: float) -> Handler:
    """What does the work: the trainer that the environment names, waited for so many seconds, or this process.

    Raises:
        TrainerUnreachable: when no trainer answers by then.
    """
    if os.environ.get(COLD) == "1":
        return cold_handler()
    trainer = TrainerClient.from_environment(os.environ)
    trainer.wait(patience)
    return trainer.call


def cold_handler() -> Handler:
    """The handler that a warm trainer would serve, made in this process."""
    from fedlmd.learner import build_handler  # noqa: PLC0415 - imports torch

    return build_handler()
