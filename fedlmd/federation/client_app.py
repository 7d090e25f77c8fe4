"""The worker's Flower app: unpack a request, call the warm trainer, pack its reply."""

from __future__ import annotations

import math
import os
import time

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fedlmd.federation.messages import SECONDS, Reply, Request, pack_reply, unpack_request
from fedlmd.federation.trainer.client import TrainerClient, TrainerError
from fedlmd.progress import Progress, Result, drain

# A trainer that died is started again, and needs time for its imports.
START_SECONDS = 90.0

app = ClientApp()


@app.train()
@app.query()
def handle(message: Message, context: Context) -> Message:
    """Reply to one message; where the trainer fails, the reply has the error."""
    worker = str(context.node_config.get("name", context.node_id))
    try:
        result = call_trainer(unpack_request(message))
    except (TrainerError, ValueError) as error:
        return pack_reply(message, Reply(worker, error=str(error)))
    return pack_reply(message, Reply(worker, result.metrics, result.weights))


def call_trainer(request: Request) -> Result:
    """The result of a request, from the warm trainer.

    Raises:
        TrainerError: when the trainer fails, or has not finished when the server stops waiting for it.
    """
    seconds = float(request.config.get(SECONDS, math.inf))
    deadline = time.monotonic() + seconds
    trainer = TrainerClient.from_environment(os.environ)
    trainer.wait(min(seconds, START_SECONDS))

    def check_deadline(_: Progress) -> None:
        if time.monotonic() > deadline:
            # The server does not wait for the update any more, and the next round's message is queued behind this one.
            raise TrainerError(f"{request.action!r} was stopped after {seconds:g} seconds")

    return drain(trainer.call(request.action, request.config, request.weights), check_deadline)
