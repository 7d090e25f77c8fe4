"""Two views of Flower's grid: one that asks for replies often, and one whose list of nodes holds still."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

if TYPE_CHECKING:
    from flwr.supercore.run import Run

__all__ = ["PollingGrid", "RollCall"]

Item = TypeVar("Item")

# Messages that are sent at once: they share one content. Replies that are fetched at once: each has its own.
PUSHED, PULLED = 100, 4


class PollingGrid(Grid):
    """A grid that looks for replies often at first and then more seldom; Flower's own looks every 3 seconds.

    A look costs the server's processor a few hundredths of a second, which the workers of a one-machine cluster miss.

    Args:
        grid: the grid to look through.
        seconds: longest pause between two looks, above 0.

    ``reply_seconds`` says by node how long the last replies took, from the question until a look found them.
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
        """Make a message (an abstract method of Flower's, which Flower itself calls deprecated)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """The nodes that are connected now."""
        return self.grid.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages; returns their ids."""
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies that have come for some message ids."""
        return self.grid.pull_messages(message_ids)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        """Send messages, and give the replies as they come: until all are there, or ``timeout`` seconds have passed.

        Replies are fetched a few at a time, and nothing here holds on to one that was given.
        """
        self.reply_seconds.clear()
        start, waiting = time.monotonic(), list(self.sent(messages))
        return self.replies(waiting, start, start + (float("inf") if timeout is None else timeout))

    def sent(self, messages: Iterable[Message]) -> Iterator[str]:
        """Send messages; gives the ids of those that the server took."""
        for group in groups(messages, PUSHED):
            yield from (message_id for message_id in self.push_messages(group) if message_id)

    def replies(self, waiting: list[str], start: float, deadline: float) -> Iterator[Message]:
        """The replies to some messages, as they come."""
        while waiting:
            spent = 0.0
            for group in groups(waiting, PULLED):
                looked = time.monotonic()
                arrived = list(self.pull_messages(group))
                spent += time.monotonic() - looked
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
                # Where a look takes long, because it asks for many, the server looks for half of its time at most.
                time.sleep(max(min(self.seconds, 0.1 + 0.05 * (now - start)), spent))


def groups(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """So many of the items at a time; those that there are when it begins."""
    every = iter(list(items))
    while group := list(islice(every, size)):
        yield group


class RollCall(PollingGrid):
    """A grid whose nodes are those that answered the roll call.

    Flower's sampling counts the nodes twice and waits for ever when one left in between.

    Args:
        grid: the grid to look through.
        nodes: the nodes to work with.
    """

    def __init__(self, grid: Grid, nodes: list[int]) -> None:
        super().__init__(grid)
        self.nodes = nodes

    def get_node_ids(self) -> Iterable[int]:
        """The nodes of the roll call."""
        return list(self.nodes)
