"""The guard before Flower's strategies: what is missing, late or broken never reaches the average.

Flower's own strategies wait for ever for missing workers, take NaN for an update, end the whole run when one worker's
arrays have other names, hold all updates at once, and call a run without a single update completed.
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

from fedlmd.aggregation import MovingAverage, RunningFigures, RunningMean
from fedlmd.compression import BITS, SCALES, check_packed, check_quantised, restore, unpacked
from fedlmd.federation.checkpoints import prefixed, stripped
from fedlmd.federation.events import EventLog
from fedlmd.federation.grid import RollCall
from fedlmd.federation.messages import (
    ARRAYS,
    AVERAGED,
    CONFIG,
    NUM_EXAMPLES,
    Reply,
    Weights,
    check_form,
    check_reply,
    content_size,
    flat,
    pack_update,
    pack_weights,
    unpack_reply,
    unpack_weights,
)
from fedlmd.federation.norms import NormBound, update_norm
from fedlmd.federation.plan import Plan
from fedlmd.federation.record import RoundRecord, reasons_of, seconds_of

__all__ = [
    "Guard",
    "TooFewWorkers",
    "TooManyFailedRounds",
]

# The moving average among the arrays that outlive a round.
AVERAGE = "average/"


class TooFewWorkers(RuntimeError):  # noqa: N818 - the name says it
    """Fewer workers than the plan asks for were connected within its time."""


class TooManyFailedRounds(RuntimeError):  # noqa: N818 - the name says it
    """So many rounds in a row gave no new weights that going on is pointless."""


class Guard(FedAvg):
    """FedAvg (McMahan et al. 2017, algorithm 1) behind the guard; also the guard of the strategies derived from it.

    Each good update is added to a running mean as it comes and then forgotten, so that the server needs the same
    memory for ten workers and for a thousand. Flower's strategy behind the guard is given that mean as one update.

    Args:
        plan: the numbers of the run.
        expected: weights with the names, shapes and dtypes of a good update. What the model has beside them stays as it
            is.
        events: where refusals and waiting are noted.
        sleep: how the guard waits; takes seconds.
        **options: for the strategy behind the guard.
    """

    def __init__(
        self,
        plan: Plan,
        expected: Mapping[str, np.ndarray],
        events: EventLog,
        sleep: Callable[[float], None] = time.sleep,
        **options: Any,  # noqa: ANN401 - of the strategy behind
    ) -> None:
        # The guard calls the roll itself, so Flower's own minimum is 1 of those that answered. Flower asks nobody to
        # evaluate: workers judge the weights that they receive before they train them.
        super().__init__(
            fraction_evaluate=0.0,
            min_train_nodes=1,
            min_available_nodes=1,
            weighted_by_key=NUM_EXAMPLES,
            arrayrecord_key=ARRAYS,
            configrecord_key=CONFIG,
            **options,
        )
        self.plan, self.expected, self.events, self.sleep = plan, expected, events, sleep
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
        self.average = MovingAverage(plan.strategy.server_ema)
        self.norms = NormBound(plan.max_norm_ratio)

    @property
    def state(self) -> Weights:
        """Arrays that must outlive a round beside the weights: norms of updates, and the weights' moving average."""
        return {**self.norms.state, **prefixed(AVERAGE, self.average.state)}

    def go_on(self, done: int, state: Weights) -> None:
        """Go on after so many rounds, with the ``state`` of that time. Flower counts its rounds from 1 again."""
        self.done = done
        self.norms.go_on(state)
        self.average.go_on(stripped(AVERAGE, state))

    def released(self, weights: Weights) -> Weights:
        """The weights of the release, where the rounds came to ``weights``: those, or their moving average."""
        return {**weights, **self.average.average}

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """One message for every connected worker. Raises TooFewWorkers when too few come in time."""
        number = self.done + server_round
        nodes = self.call_roll(number, grid)
        self.record = RoundRecord(number, len(nodes))
        self.reply_seconds = getattr(grid, "reply_seconds", {})  # not every grid takes the time
        self.sent = unpack_weights(arrays)
        if self.plan.compression != "none":
            config[AVERAGED] = json.dumps(self.averaged)
        messages = list(super().configure_train(number, arrays, config, RollCall(grid, nodes)))
        self.record.bytes_down = content_size(messages[0].content)
        self.asked = [message.metadata for message in messages]
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The average of the good updates, or (None, None), which keeps the weights.

        Raises:
            TooManyFailedRounds: when this was the last failed round that the plan bears.
        """
        good, number = 0, self.done + server_round
        self.begin()
        for message in self.norms.primed(replies, self.norm_of):
            reply = self.accept(message)
            if reply is not None:
                good += 1
                self.add(reply)
                self.figures.add(flat(reply.metrics), reply.metrics[NUM_EXAMPLES])
        self.record.end()
        if good < self.plan.min_replies:
            self.keep(good)
            return None, None
        self.failed_in_a_row = 0
        weights = {**self.sent, **self.combined(number)}
        if self.plan.strategy.server_ema:
            self.average.add(weights)
        figures = {name: of for name, of in self.figures.means.items() if name != NUM_EXAMPLES}
        self.record.aggregated, self.record.metrics = True, figures
        # Where two workers share a name, neither could tell whose update it was that was averaged.
        counts = Counter(worker["name"] for worker in self.record.workers)
        self.averaged.update({name: number for name, count in counts.items() if count == 1})
        return pack_weights(weights), MetricRecord(dict(figures))

    def begin(self) -> None:
        """Forget the updates of the round before."""
        self.mean, self.figures = RunningMean(), RunningFigures()

    def add(self, reply: Reply) -> None:
        """Take a good update in."""
        uniform = self.plan.strategy.weighting == "uniform"
        self.mean.add(reply.weights, 1.0 if uniform else reply.metrics[NUM_EXAMPLES])

    def combined(self, number: int) -> Weights:
        """The weights that the round's updates make. At least one was added."""
        return self.through_flower(number, [pack_update(self.mean.mean(), 1)])

    def through_flower(self, number: int, updates: list[Message]) -> Weights:
        """What Flower's strategy behind the guard makes of updates, in the types that the model has."""
        arrays, _ = super().aggregate_train(number, updates)
        # Flower's own arithmetic turns float32 into float64 here and there.
        combined = unpack_weights(arrays or ArrayRecord())
        return {name: array.astype(self.expected[name].dtype) for name, array in combined.items()}

    def call_roll(self, number: int, grid: Grid) -> list[int]:
        """The connected nodes, once there are enough of them."""
        deadline, said = time.monotonic() + self.plan.wait_seconds, -1
        while len(nodes := list(grid.get_node_ids())) < self.plan.min_workers:
            if len(nodes) != said:
                said = len(nodes)
                self.events.append("waiting", round=number, connected=said, needed=self.plan.min_workers)
            if time.monotonic() >= deadline:
                raise TooFewWorkers(
                    f"round {number} needs {self.plan.min_workers} workers and {len(nodes)} were connected"
                    f" after {self.plan.wait_seconds:g} seconds: start more workers, or lower min_workers"
                )
            self.sleep(0.5)
        return nodes

    def accept(self, message: Message) -> Reply | None:
        """The reply in a message, or None when it may not be averaged.

        Why not is counted, noted in the diary, and kept for the round's event.
        """
        reply = self.opened(message)
        reason = check_reply(reply, self.expected) or self.norms.check(update_norm(reply.weights, self.sent))
        if reason is None:
            size = {"bytes-down": self.record.bytes_down, "bytes-up": content_size(message.content)}
            seconds = seconds_of(reply.metrics, self.reply_seconds.get(message.metadata.src_node_id))
            self.record.workers.append({"name": reply.worker, "metrics": {**reply.metrics, **size, **seconds}})
            return reply
        self.refused_count += 1
        self.record.refused.append({"name": reply.worker, "reason": reason})
        self.events.append("refused", round=self.record.number, worker=reply.worker, reason=reason)
        return None

    def opened(self, message: Message) -> Reply:
        """The reply in a message, under its worker's name and with whole weights."""
        reply = self.named(message, unpack_reply(message))
        return self.restored(reply) if self.plan.compression != "none" and reply.error is None else reply

    def norm_of(self, message: Message) -> float | None:
        """How far a reply's update moves the weights; None when it is refused whatever that is."""
        reply = self.opened(message)
        return None if check_reply(reply, self.expected) else update_norm(reply.weights, self.sent)

    def sender(self, message: Message) -> int:
        """The node that a reply is from; Flower's own failures come from its server and name only what they answer."""
        if message.has_error():
            for asked in self.asked:
                if asked.message_id == message.metadata.reply_to_message_id:
                    return int(asked.dst_node_id)
        return int(message.metadata.src_node_id)

    def named(self, message: Message, reply: Reply) -> Reply:
        """The reply under its worker's name, which Flower's own failures do not carry."""
        node = self.sender(message)
        if reply.worker != str(message.metadata.src_node_id):
            self.names[node] = reply.worker
        return replace(reply, worker=self.names.get(node, str(node)))

    def restored(self, reply: Reply) -> Reply:
        """The reply with the weights that its quantised change makes of those that were sent, or with an error."""
        start = {name: self.sent[name] for name in self.expected}
        update = reply.weights
        if BITS[self.plan.compression] == 4:
            if reason := check_packed(update, start):
                return replace(reply, error=reason)
            update = unpacked(update, start)
        quanta = {name: array for name, array in update.items() if name != SCALES}
        if reason := check_quantised(update) or check_form(quanta, start):
            return replace(reply, error=reason)
        changed = restore(update)
        with np.errstate(over="ignore"):  # what overflows is refused because it is not finite
            weights = {name: (array + changed[name]).astype(array.dtype) for name, array in start.items()}
        return replace(reply, weights=weights)

    def keep(self, good: int) -> None:
        """Note that a round leaves the weights as they are, and end the run when that happens too often."""
        self.failed_in_a_row += 1
        needed = self.plan.min_replies
        self.events.append("kept", round=self.record.number, good=good, needed=needed, asked=self.record.asked)
        if self.failed_in_a_row >= self.plan.max_failed_rounds:
            raise TooManyFailedRounds(
                f"{self.failed_in_a_row} rounds in a row had fewer than {needed} good updates; in the last"
                f" {good} of {self.record.asked} were good ({reasons_of(self.record.refused)})"
            )
