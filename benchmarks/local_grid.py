"""A federation in one process, where every worker's handler is called in turn.

For measurements and tests: server, strategies, messages and workers are those of Flower's processes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from fedlmd.federation.messages import Reply, pack_reply, unpack_request
from fedlmd.federation.trainer.server import Handler, sentence
from fedlmd.progress import Progress, drain

if TYPE_CHECKING:
    from flwr.supercore.run import Run


class Stopped(RuntimeError):  # noqa: N818 - the name says it
    """The run was stopped by its caller."""


class LocalGrid(Grid):
    """A grid whose nodes are handlers in this process; replies come lazily, one worker after the other.

    Attributes:
        stopped: once another thread sets it, the busy worker replies that it was stopped, and no other one is called.

    Args:
        handlers: each worker's by its name; see ``fedlmd.federation.trainer.server.serve``.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        # Flower stamps every message with its process's task, which only Flower's own processes have.
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.stopped = threading.Event()
        self.handlers = dict(enumerate(handlers.items(), start=1))

    def get_node_ids(self) -> Iterable[int]:
        """All of them; they are always connected."""
        return list(self.handlers)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:  # noqa: ARG002 - no handler is late
        """The replies to messages; where a handler failed, its reply holds the error. Raises Stopped."""
        for message in messages:
            if self.stopped.is_set():
                raise Stopped("the run was stopped")
            name, handler = self.handlers[message.metadata.dst_node_id]
            yield pack_reply(message, self.reply(name, handler, message))

    def set_run(self, run: Run) -> None:
        """Nothing: there is one run."""

    @property
    def run(self) -> Run:
        """There is no run of Flower."""
        raise NotImplementedError("a federation in one process is not a run of Flower")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message (an abstract method of Flower's, which Flower itself calls deprecated)."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Messages are not kept here."""
        raise NotImplementedError("a federation in one process replies at once; use send_and_receive")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Messages are not kept here."""
        raise NotImplementedError("a federation in one process replies at once; use send_and_receive")

    def reply(self, name: str, handler: Handler, message: Message) -> Reply:
        """A worker's reply to a message."""
        try:
            request = unpack_request(message)
            result = drain(handler(request.action, request.config, request.weights), self.check)
            return Reply(name, result.metrics, result.weights)
        except Exception as error:
            return Reply(name, error=sentence(error))

    def check(self, _: Progress) -> None:
        """Stop a worker between two steps of its work. Raises ValueError."""
        if self.stopped.is_set():
            raise ValueError("the run was stopped")
