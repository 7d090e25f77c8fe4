"""Two wrappers of Flower's grid: one that polls for replies often, and one with a fixed list of nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedlmd.federation.events import EventLog

if TYPE_CHECKING:
    from flwr.supercore.run import Run


Item = TypeVar("Item")

# Messages that are pushed at once: they share one content. Replies that are pulled at once: each has its own content.
PUSHED, PULLED = 100, 4


class PollingGrid(Grid):
    """A grid that polls for replies often at first and then less often; Flower's own polls every 3 seconds.

    A poll costs the server a few hundredths of a second of processor time, which the workers of a one-machine cluster
    would use otherwise.

    Args:
        grid: Flower's grid.
        seconds: longest pause between two polls, above 0.

    ``reply_seconds`` has by node how long the last replies took, from the request until a poll returned them.
    """

    def __init__(self, grid: Grid, seconds: float = 1.0) -> None:
        self.grid = grid
        self.seconds = seconds
        self.reply_seconds: dict[int, float] = {}

    def set_run(self, run: Run) -> None:
        """Set the run that the grid works for."""
        self.grid.set_run(run)

    @property
    def run(self) -> Run:
        """The run that the grid works for."""
        return self.grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message. Abstract in Flower's class, and deprecated there."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected now."""
        return self.grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; returns their ids."""
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have arrived for some message ids."""
        return self.grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Send messages, and yield the replies as they arrive, until all have or ``timeout`` seconds have passed.

        Replies are pulled a few at a time, and none is kept here once it was yielded.
        """
        self.reply_seconds.clear()
        start, waiting = time.monotonic(), list(self.sent(messages))
        return self.replies(waiting, start, start + (float("inf") if timeout is None else timeout))

    def sent(self, messages: Iterable[Message]) -> Iterator[str]:
        """Send messages; yields the ids of those that the server accepted."""
        for group in groups(messages, PUSHED):
            yield from (message_id for message_id in self.push_messages(group) if message_id)

    def replies(self, waiting: list[str], start: float, deadline: float) -> Iterator[Message]:
        """The replies to some messages, as they arrive."""
        while waiting:
            spent = 0.0
            for group in groups(waiting, PULLED):
                began = time.monotonic()
                arrived = list(self.pull_messages(group))
                spent += time.monotonic() - began
                took = time.monotonic() - start
                self.reply_seconds.update({message.metadata.src_node_id: took for message in arrived})
                answered = {message.metadata.reply_to_message_id for message in arrived}
                waiting = [message_id for message_id in waiting if message_id not in answered]
                while arrived:
                    yield arrived.pop(0)
            now = time.monotonic()
            if now > deadline:
                break
            if waiting:
                # With many replies to ask for, a poll takes long; at most half of the server's time goes to polling.
                time.sleep(max(min(self.seconds, 0.1 + 0.05 * (now - start)), spent))


def groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in groups of ``size``; those that exist when the iteration begins."""
    every = iter(list(items))
    while group := list(islice(every, size)):
        yield group


class FixedNodesGrid(PollingGrid):
    """A grid whose list of nodes does not change.

    Flower's sampling counts the nodes twice and waits without end when one left in between.

    Args:
        grid: Flower's grid.
        nodes: the list.
    """

    def __init__(self, grid: Grid, nodes: list[int]) -> None:
        super().__init__(grid)
        self.nodes = nodes

    def get_node_ids(self) -> Iterable[int]:
        """The fixed nodes."""
        return list(self.nodes)


def wait_for_clients(
    grid: Grid,
    needed: int,
    seconds: float,
    events: EventLog,
    sleep: Callable[[float], None] = time.sleep,
    **fields: object,
) -> list[int]:
    """The connected nodes, once there are enough of them or the time is over.

    Args:
        grid: Flower's grid.
        needed: number of nodes to wait for.
        seconds: how long to wait at most.
        events: gets a "waiting" event whenever the number of nodes has changed.
        sleep: called with seconds to wait.
        **fields: of those events.
    """
    deadline, reported = time.monotonic() + seconds, -1
    while len(nodes := list(grid.get_node_ids())) < needed:
        if len(nodes) != reported:
            reported = len(nodes)
            events.append("waiting", **fields, connected=reported, needed=needed)
        if time.monotonic() >= deadline:
            break
        sleep(0.5)
    return nodes
