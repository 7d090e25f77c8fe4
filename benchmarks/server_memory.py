"""``python -m benchmarks.server_memory STRATEGY WORKERS MEASURE``: the server's side of one round, and its memory.

The code is a deployment's from Flower's own grid upwards: messages are packed for the wire and replies are fetched,
object by object, and unpacked as in the server's Flower process. Only what lies behind the HTTP client is simulated:
a SuperLink whose workers have all replied already. It keeps one update, and gives each worker's reply as bytes of its
own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ConfirmMessageReceivedResponse, PullObjectResponse, PushObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse, PushAppMessagesResponse
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid import HttpGrid

from benchmarks.resident import resident
from fedlmd.federation.actions import TRAIN
from fedlmd.federation.config import FederationConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import ARRAYS, CONFIG, Reply, pack_config, pack_reply, pack_request, pack_weights
from fedlmd.federation.server.grid import PollingGrid
from fedlmd.federation.server.strategies import build_strategy
from fedlmd.federation.strategies import STRATEGIES
from fedlmd.release import Weights

FLOWER = "flower"
"""In place of a strategy: Flower's own FedAvg and grid, without ours."""

SIZE = 700_000
"""Weights of the model, float32: 2.8 MB, about as many as a release's two networks have."""


class EagerLink:
    """Replies to Flower's HTTP client as a SuperLink does whose workers have all replied.

    Args:
        update: what each worker replies with.
    """

    def __init__(self, update: Weights) -> None:
        request = pack_request(TRAIN, {}, pack_weights({}), 1)
        self.content = pack_reply(request, Reply("worker", {"num-examples": 60, "loss": 1.0}, update)).content
        self.objects = {name: nested.deflate() for name, nested in get_all_nested_objects(self.content).items()}
        self.unanswered: dict[str, int] = {}

    def PushMessages(self, request: Any) -> PushAppMessagesResponse:  # noqa: ANN401, N802 - Flower's
        """Take messages; all their objects are requested."""
        ids = [message.metadata.message_id for message in request.messages_list]
        nodes = [message.metadata.dst_node_id for message in request.messages_list]
        self.unanswered.update(zip(ids, nodes, strict=True))
        wanted = {name for tree in request.message_object_trees for name in names_in(tree)}
        return PushAppMessagesResponse(message_ids=ids, objects_to_push=sorted(wanted), session_id="1")

    def PushObject(self, request: Any) -> PushObjectResponse:  # noqa: ANN401, N802 - Flower's
        """Take an object and discard it."""
        return PushObjectResponse(stored=bool(request.object_content))

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: ANN401, N802 - Flower's
        """The replies to the messages asked for, once."""
        replies = [self.reply(name) for name in request.message_ids if name in self.unanswered]
        protos = [message_to_proto(remove_content_from_message(reply)) for reply in replies]
        trees = [get_object_tree(reply) for reply in replies]
        return PullAppMessagesResponse(messages_list=protos, message_object_trees=trees)

    def reply(self, name: str) -> Message:
        """A worker's reply to a message; its own object is kept until it is fetched."""
        request = pack_request(TRAIN, {}, pack_weights({}), self.unanswered.pop(name))
        request.metadata.__dict__["_message_id"] = name
        reply = Message(self.content, reply_to=request)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        self.objects[reply.object_id] = reply.deflate()
        return reply

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: ANN401, N802 - Flower's
        """An object's bytes."""
        content = self.objects[request.object_id]
        return PullObjectResponse(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request: Any) -> ConfirmMessageReceivedResponse:  # noqa: ANN401, N802 - Flower's
        """Discard a reply that arrived."""
        del self.objects[request.message_object_id]
        return ConfirmMessageReceivedResponse()


class EagerGrid(HttpGrid):
    """Flower's grid of a deployment, with a simulated SuperLink behind it.

    Args:
        workers: how many are connected.
        update: what each of them replies with.
    """

    def __init__(self, workers: int, update: Weights) -> None:
        # Flower stamps every message with its process's task, which only Flower's own processes have.
        TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1
        super().__init__(token="none", insecure=True)  # noqa: S106 - not used
        self.workers, self.link = workers, EagerLink(update)
        self.set_run(Run.create_empty(1))

    @property
    def _runtime_client(self) -> Any:  # noqa: ANN401 - it is the simulated one
        return self.link

    def get_node_ids(self) -> Iterable[int]:
        """The workers."""
        return range(1, self.workers + 1)


def config_of(strategy: str) -> FederationConfig:
    """The federation's settings with a strategy and the fewest workers that it takes."""
    usual = FederationConfig()
    least = STRATEGIES[strategy].least_replies(usual)
    return FederationConfig(strategy=strategy, min_workers=least, min_replies=least)


def names_in(tree: Any) -> Iterable[str]:  # noqa: ANN401 - Flower's ObjectTree
    """The ids of all objects of a tree."""
    yield tree.object_id
    for child in tree.children:
        yield from names_in(child)


def measure_round(strategy: str, grid: EagerGrid, start: Weights, folder: Path) -> Weights:
    """One round with all workers; the weights that it comes to.

    Args:
        strategy: one of ``fedlmd.federation.strategies.STRATEGIES``, or ``FLOWER`` for Flower's own FedAvg and grid.
        grid: Flower's, with the workers behind it.
        start: the global weights.
        folder: for the event log.
    """
    arrays = pack_weights(start)
    if strategy == FLOWER:
        result = FedAvg(fraction_evaluate=0.0, arrayrecord_key=ARRAYS, configrecord_key=CONFIG).start(
            grid, arrays, num_rounds=1, train_config=pack_config(TRAIN, {})
        )
    else:
        result = build_strategy(config_of(strategy), start, EventLog(folder)).start(
            PollingGrid(grid), arrays, num_rounds=1, train_config=pack_config(TRAIN, {})
        )
    return {name: array.numpy() for name, array in result.arrays.items()}


def memory_of(strategy: str, workers: int, *, trace: bool, size: int = SIZE) -> Mapping[str, float]:
    """Seconds and memory of a round in this process.

    Args:
        strategy: as ``measure_round`` takes it.
        workers: how many reply.
        size: weights of the model.
        trace: count every allocation of Python and numpy, which takes time, instead of reading it from the system.
    """
    generator = np.random.default_rng(0)
    start = {"w": generator.normal(size=size).astype(np.float32)}
    grid = EagerGrid(workers, {"w": start["w"] + np.float32(0.01)})
    before = resident("VmRSS")
    if trace:
        tracemalloc.start()
    start_time = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        measure_round(strategy, grid, start, Path(folder))
    seconds = time.monotonic() - start_time
    if trace:
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return {"workers": workers, "allocated_mib": most / 2**20}
    return {"workers": workers, "seconds": seconds, "rss_mib": resident("VmHWM"), "rss_before_mib": before}


def main(arguments: list[str]) -> None:
    """Print the measurement of ``arguments``, strategy, workers and "rss" or "allocated", as JSON."""
    strategy, workers, measure = arguments
    print(json.dumps(memory_of(strategy, int(workers), trace=measure == "allocated")))  # noqa: T201 - its output


if __name__ == "__main__":
    main(sys.argv[1:])
