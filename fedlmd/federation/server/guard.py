"""The guard before Flower's strategies: missing, late and broken updates never reach the average.

Flower's own strategies wait without end for missing workers, average NaN, end the whole run when one worker's arrays
have other names, hold all updates at once, and report a run without a single update as completed.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, Metadata, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fedlmd.federation.aggregation import MovingAverage, RunningFigures, RunningMean
from fedlmd.federation.compression import BITS
from fedlmd.federation.config import FederationConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import (
    ARRAYS,
    AVERAGED,
    CONFIG,
    NUM_EXAMPLES,
    Reply,
    check_reply,
    content_size,
    flat,
    pack_update,
    pack_weights,
    unpack_reply,
    unpack_weights,
)
from fedlmd.federation.server.checkpoints import prefixed, stripped
from fedlmd.federation.server.grid import FixedNodesGrid, wait_for_clients
from fedlmd.federation.server.norms import NormBound, update_norm
from fedlmd.federation.server.round_record import RoundRecord, reasons_of, seconds_of
from fedlmd.federation.server.updates import ReceivedUpdate, restored
from fedlmd.release import Weights

# Prefix of the moving average's arrays in the strategy's state.
AVERAGE = "average/"


class TooFewWorkers(RuntimeError):  # noqa: N818 - the name says it
    """Fewer than ``min_workers`` workers were connected within ``wait_seconds``."""


class TooManyFailedRounds(RuntimeError):  # noqa: N818 - the name says it
    """More rounds in a row than the settings allow gave no new weights."""


class Guard(FedAvg):
    """FedAvg (McMahan et al. 2017, algorithm 1) behind the guard; also the guard of the strategies derived from it.

    Each good update is added to a running mean as it arrives and then dropped, so that the server needs the same memory
    for ten workers and for a thousand. Flower's strategy behind the guard gets that mean as one update.

    Args:
        config: how the workers train together.
        expected: weights with the names, shapes and dtypes of a good update. Other arrays of the model stay unchanged.
        events: gets refusals and waiting.
        sleep: called with seconds to wait.
        **options: for the strategy behind the guard.

    Attributes:
        constants: arrays that the workers get beside the weights, and never change.
    """

    def __init__(
        self,
        config: FederationConfig,
        expected: Mapping[str, np.ndarray],
        events: EventLog,
        sleep: Callable[[float], None] = time.sleep,
        **options: Any,  # noqa: ANN401 - of the strategy behind
    ) -> None:
        # The guard itself waits for enough workers, so Flower's own minimum is 1. Flower requests no evaluation:
        # workers evaluate the weights that they receive before they train them.
        super().__init__(
            fraction_evaluate=0.0,
            min_train_nodes=1,
            min_available_nodes=1,
            weighted_by_key=NUM_EXAMPLES,
            arrayrecord_key=ARRAYS,
            configrecord_key=CONFIG,
            **options,
        )
        self.config, self.expected, self.events, self.sleep = config, expected, events, sleep
        self.done = 0
        self.failed_in_a_row = 0
        self.refused_count = 0
        self.names: dict[int, str] = {}
        self.asked: list[Metadata] = []
        self.sent: Mapping[str, np.ndarray] = expected
        self.averaged: dict[str, int] = {}
        self.record = RoundRecord(0, 0)
        self.reply_seconds: Mapping[int, float] = {}
        self.mean, self.figures = RunningMean(), RunningFigures()
        self.average = MovingAverage(config.server_ema)
        self.constants: Weights = {}
        self.norms = NormBound(config.max_norm_ratio)

    @property
    def state(self) -> Weights:
        """Arrays that a resumed run needs beside the weights: norms of updates, and the weights' moving average."""
        return {**self.norms.state, **prefixed(AVERAGE, self.average.state)}

    def load_state(self, done: int, state: Weights) -> None:
        """Continue after ``done`` rounds, with the ``state`` after them. Flower counts its rounds from 1 again."""
        self.done = done
        self.norms.load_state(state)
        self.average.load_state(stripped(AVERAGE, state))

    def released(self, weights: Weights) -> Weights:
        """The weights of the release, after rounds that ended with ``weights``: those, or their moving average."""
        return {**weights, **self.average.average}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for every connected worker. Raises TooFewWorkers when too few come in time."""
        number = self.done + server_round
        nodes = self.fixed_nodes(number, grid)
        self.record = RoundRecord(number, len(nodes))
        self.reply_seconds = getattr(grid, "reply_seconds", {})  # not every grid measures it
        self.sent = unpack_weights(arrays)
        if self.config.compression != "none":
            config[AVERAGED] = json.dumps(self.averaged)
        sent = pack_weights({**self.sent, **self.constants}) if self.constants else arrays
        messages = list(super().configure_train(number, sent, config, FixedNodesGrid(grid, nodes)))
        self.record.bytes_down = content_size(messages[0].content)
        self.asked = [message.metadata for message in messages]
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The average of the good updates, or (None, None), which keeps the weights.

        Raises:
            TooManyFailedRounds: when ``max_failed_rounds`` rounds in a row failed, this one the last of them.
        """
        number, good = self.done + server_round, self.receive(replies)
        if good < self.config.min_replies:
            self.keep(good)
            return None, None
        self.failed_in_a_row = 0
        weights = {**self.sent, **self.combined(number)}
        if self.config.server_ema:
            self.average.add(weights)
        figures = {name: mean for name, mean in self.figures.means.items() if name != NUM_EXAMPLES}
        self.record.aggregated, self.record.metrics = True, figures
        # Of two workers with the same name, neither could tell whose update was averaged.
        counts = Counter(worker["name"] for worker in self.record.workers)
        self.averaged.update({name: number for name, count in counts.items() if count == 1})
        return pack_weights(weights), MetricRecord(dict(figures))

    def receive(self, replies: Iterable[Message]) -> int:
        """Add the good updates of a round as they arrive; returns their number."""
        good = 0
        self.begin()
        for update in self.norms.warm_up(map(self.unpack, replies), lambda update: update.norm):
            if self.accept(update):
                good += 1
                self.add(update.reply)
                self.figures.add(flat(update.reply.metrics), update.reply.metrics[NUM_EXAMPLES])
        self.record.end()
        return good

    def begin(self) -> None:
        """Drop the updates of the previous round."""
        self.mean, self.figures = RunningMean(), RunningFigures()

    def add(self, reply: Reply) -> None:
        """Add a good update."""
        uniform = self.config.weighting == "uniform"
        self.mean.add(reply.weights, 1.0 if uniform else reply.metrics[NUM_EXAMPLES])

    def combined(self, number: int) -> Weights:
        """The weights that result from the round's updates. At least one was added."""
        return self.through_flower(number, [pack_update(self.mean.mean(), 1)])

    def through_flower(self, number: int, updates: list[Message]) -> Weights:
        """The result of Flower's strategy behind the guard, in the dtypes of the model."""
        arrays, _ = super().aggregate_train(number, updates)
        # Some of Flower's arithmetic turns float32 into float64.
        combined = unpack_weights(arrays or ArrayRecord())
        return {name: array.astype(self.expected[name].dtype) for name, array in combined.items()}

    def fixed_nodes(self, number: int, grid: Grid) -> list[int]:
        """The nodes of a round, once enough are connected. Raises TooFewWorkers."""
        needed, seconds = self.config.min_workers, self.config.wait_seconds
        nodes = wait_for_clients(grid, needed, seconds, self.events, sleep=self.sleep, round=number)
        if len(nodes) < needed:
            raise TooFewWorkers(
                f"round {number} needs {needed} workers and {len(nodes)} were connected after {seconds:g} seconds: "
                "start more workers, or lower min_workers"
            )
        return nodes

    def unpack(self, message: Message) -> ReceivedUpdate:
        """The update in a message, under its worker's name, with whole weights, and checked but for its norm."""
        reply, node = self.named(message, unpack_reply(message)), int(message.metadata.src_node_id)
        if self.config.compression != "none" and reply.error is None:
            start = {name: self.sent[name] for name in self.expected}
            reply = restored(reply, start, BITS[self.config.compression])
        if reason := check_reply(reply, self.expected):
            return ReceivedUpdate(reply, node, reason)
        return ReceivedUpdate(reply, node, None, content_size(message.content), update_norm(reply.weights, self.sent))

    def accept(self, update: ReceivedUpdate) -> bool:
        """Whether an update may be averaged. The reason of a refusal is counted, logged and kept in the record."""
        reply, reason = update.reply, update.reason
        if reason is None and update.norm is not None:
            reason = self.norms.check(update.norm)
        if reason is None:
            size = {"bytes-down": self.record.bytes_down, "bytes-up": update.size}
            seconds = seconds_of(reply.metrics, self.reply_seconds.get(update.node))
            self.record.workers.append({"name": reply.worker, "metrics": {**reply.metrics, **size, **seconds}})
            return True
        self.refused_count += 1
        self.record.refused.append({"name": reply.worker, "reason": reason})
        self.events.append("refused", round=self.record.number, worker=reply.worker, reason=reason)
        return False

    def sender(self, message: Message) -> int:
        """The node that a reply is from. Flower's own error messages come from its server and name only the request."""
        if message.has_error():
            for asked in self.asked:
                if asked.message_id == message.metadata.reply_to_message_id:
                    return int(asked.dst_node_id)
        return int(message.metadata.src_node_id)

    def named(self, message: Message, reply: Reply) -> Reply:
        """The reply under its worker's name, which Flower's own error messages do not contain."""
        node = self.sender(message)
        if reply.worker != str(message.metadata.src_node_id):
            self.names[node] = reply.worker
        return replace(reply, worker=self.names.get(node, str(node)))

    def keep(self, good: int) -> None:
        """Log that a round keeps the weights, and end the run when that happens too often."""
        self.failed_in_a_row += 1
        needed = self.config.min_replies
        self.events.append("kept", round=self.record.number, good=good, needed=needed, asked=self.record.asked)
        if self.failed_in_a_row >= self.config.max_failed_rounds:
            raise TooManyFailedRounds(
                f"{self.failed_in_a_row} rounds in a row had fewer than {needed} good updates; in the last"
                f" {good} of {self.record.asked} were good ({reasons_of(self.record.refused)})"
            )
