"""The client of a warm trainer, in a node and in Flower's short-lived processes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from fedlmd.federation.trainer.connection import Frame, connect, read_frame, write_frame
from fedlmd.progress import Progress, Result, Work

# Seconds within which a trainer completes the handshake, also while it works; one that does not hangs.
HANDSHAKE_SECONDS = 10.0
SOCKET, KEY = "FEDLMD_TRAINER_SOCKET", "FEDLMD_TRAINER_KEY"


class TrainerError(RuntimeError):
    """The trainer could not do its work; the text says why."""


class TrainerBusy(TrainerError):  # noqa: N818 - the name says it
    """The trainer works for another call."""


class TrainerUnreachable(TrainerError):  # noqa: N818 - the name says it
    """No trainer responds at the socket, or it has another key."""


@dataclass(frozen=True)
class TrainerStatus:
    """The present state of a trainer.

    Args:
        busy: whether it works.
        action: the action of its present call, or None.
        progress: the newest step of that call, or None before the first.
    """

    busy: bool
    action: str | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class TrainerClient:
    """Calls a trainer.

    Args:
        socket_path: where the trainer listens.
        authkey: the shared secret.
    """

    socket_path: Path
    authkey: bytes

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> TrainerClient:
        """The trainer that a node named for its Flower processes. Raises TrainerUnreachable when it named none."""
        try:
            return cls(Path(environment[SOCKET]), bytes.fromhex(environment[KEY]))
        except (KeyError, ValueError) as error:
            raise TrainerUnreachable(f"{SOCKET} and {KEY} must name the trainer: {error}") from None

    def environment(self) -> dict[str, str]:
        """The variables from which ``from_environment`` makes this client."""
        return {SOCKET: str(self.socket_path), KEY: self.authkey.hex()}

    def call(self, action: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Work:
        """Have the trainer work. Closing the generator stops the work at its next step.

        Raises:
            TrainerBusy: when it works for another call.
            TrainerUnreachable: when there is no trainer, or it died.
            TrainerError: when the work failed or was cancelled.
        """
        with self._connect() as connection:
            try:
                write_frame(connection, "request", weights, action=action, config=dict(config))
                while isinstance(item := item_of(read_frame(connection)), Progress):
                    yield item
                return item
            except (EOFError, OSError) as error:
                raise TrainerUnreachable(f"the trainer went away in the middle of {action!r} ({error!r})") from None

    def status(self, timeout: float = 5.0) -> TrainerStatus:
        """The trainer's state; it responds at once, also while it works. Raises TrainerUnreachable."""
        fields = self._exchange("status", timeout).fields
        progress = Progress(**fields["progress"]) if fields["progress"] else None
        return TrainerStatus(fields["busy"], fields["action"], progress)

    def answers(self) -> bool:
        """Whether the trainer responds."""
        try:
            self.status()
        except TrainerUnreachable:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Wait until the trainer responds. Raises TrainerUnreachable when it does not within ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.status()
            except TrainerUnreachable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def cancel(self, timeout: float = 5.0) -> bool:
        """Stop the running work at its next step. True when there was some. Raises TrainerUnreachable."""
        return bool(self._exchange("cancel", timeout).fields["busy"])

    def _exchange(self, kind: str, timeout: float) -> Frame:
        with self._connect(timeout) as connection:
            try:
                write_frame(connection, kind)
                if connection.poll(timeout):
                    return read_frame(connection)
            except (EOFError, OSError) as error:
                raise TrainerUnreachable(f"the trainer went away ({error!r})") from None
        raise TrainerUnreachable(f"the trainer at {self.socket_path} did not answer within {timeout:g} seconds")

    def _connect(self, timeout: float = HANDSHAKE_SECONDS) -> Connection:
        """A connection to the trainer. Raises TrainerUnreachable."""
        try:
            return connect(self.socket_path, self.authkey, timeout)
        except AuthenticationError:
            raise TrainerUnreachable(f"the trainer at {self.socket_path} does not take this key") from None
        except (EOFError, OSError) as error:
            raise TrainerUnreachable(f"no trainer answers at {self.socket_path} ({error!r})") from None


def item_of(frame: Frame) -> Progress | Result:
    """The step or the result in a frame; an error frame is raised as the error that it names."""
    if frame.kind == "progress":
        return Progress(**frame.fields)
    if frame.kind == "result":
        return Result(frame.fields["metrics"], frame.weights or {})
    raise (TrainerBusy if frame.fields.get("busy") else TrainerError)(str(frame.fields.get("reason", frame.kind)))
