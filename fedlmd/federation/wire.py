"""The line to a warm trainer: frames over a Unix socket, JSON for words and safetensors for arrays, never a pickle.

A frame is one JSON object ``{"kind": ...}``; where its ``"weights"`` is true, a second message with the arrays in
safetensors format follows. Client to trainer: "request", "status", "cancel". Trainer to client: "progress", "result",
"error", "status", "cancelled". One connection carries one call.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from fedlmd.progress import Progress, Result

__all__ = [
    "Frame",
    "TrainerBusy",
    "TrainerClient",
    "TrainerError",
    "TrainerStatus",
    "TrainerUnreachable",
    "check_socket_path",
    "read_frame",
    "write_frame",
]

# AF_UNIX takes 108 bytes on Linux and 104 on macOS, the end mark included.
LONGEST_PATH = 100
# Seconds within which a trainer greets who calls it, also while it works; one that does not stands still.
GREETING_SECONDS = 10.0
SOCKET, KEY = "FEDLMD_TRAINER_SOCKET", "FEDLMD_TRAINER_KEY"


class TrainerError(RuntimeError):
    """The trainer could not do what it was asked; the text says why."""


class TrainerBusy(TrainerError):  # noqa: N818 - the name says it
    """The trainer works on something else."""


class TrainerUnreachable(TrainerError):  # noqa: N818 - the name says it
    """No trainer answers at the socket, or it does not take the key."""


@dataclass(frozen=True)
class Frame:
    """One message of the line.

    Args:
        kind: what it is; see the module's text.
        fields: the rest of its JSON object.
        weights: arrays by name, or None.
    """

    kind: str
    fields: dict[str, Any]
    weights: dict[str, np.ndarray] | None = None


@dataclass(frozen=True)
class TrainerStatus:
    """What a trainer does now.

    Args:
        busy: whether it works.
        action: what it was asked to do, or None.
        progress: the newest step of that, or None before the first.
    """

    busy: bool
    action: str | None = None
    progress: Progress | None = None


def check_socket_path(path: Path) -> None:
    """Raise ValueError when a path is too long for a Unix socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise ValueError(
            f"the socket path {path} has {length} bytes; at most {LONGEST_PATH} work: choose a shorter folder"
        )


def write_frame(line: Connection, kind: str, weights: Mapping[str, np.ndarray] | None = None, **fields: object) -> None:
    """Send one frame. Raises OSError when the other side is gone."""
    head = {"kind": kind, "weights": weights is not None, **fields}
    line.send_bytes(json.dumps(head).encode())
    if weights is not None:
        line.send_bytes(save_arrays({name: np.ascontiguousarray(array) for name, array in weights.items()}))


def read_frame(line: Connection) -> Frame:
    """Receive one frame. Raises EOFError or OSError when the other side is gone."""
    head = json.loads(line.recv_bytes())
    arrays = load_arrays(line.recv_bytes()) if head.pop("weights", False) else None
    return Frame(head.pop("kind"), head, arrays)


@dataclass(frozen=True)
class TrainerClient:
    """Asks a trainer.

    Args:
        socket_path: where the trainer listens.
        authkey: the secret that both know.
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
        """The variables from which ``from_environment`` finds this trainer."""
        return {SOCKET: str(self.socket_path), KEY: self.authkey.hex()}

    def call(
        self, action: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]
    ) -> Iterator[Progress | Result]:
        """Let the trainer work; the last item is the Result. Closing the iterator stops the work at its next step.

        Raises:
            TrainerBusy: when it works on something else.
            TrainerUnreachable: when there is no trainer, or it died.
            TrainerError: when the work failed or was cancelled.
        """
        with self._connect() as line:
            try:
                write_frame(line, "request", weights, action=action, config=dict(config))
                while True:
                    item = item_of(read_frame(line))
                    yield item
                    if isinstance(item, Result):
                        return
            except (EOFError, OSError) as error:
                raise TrainerUnreachable(f"the trainer went away in the middle of {action!r} ({error!r})") from None

    def ask(self, action: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Result:
        """Let the trainer work and wait for the result. Raises as ``call`` does."""
        result = Result()
        for item in self.call(action, config, weights):
            if isinstance(item, Result):
                result = item
        return result

    def status(self, timeout: float = 5.0) -> TrainerStatus:
        """What the trainer does now; answered at once, also while it works. Raises TrainerUnreachable."""
        fields = self._question("status", timeout).fields
        progress = Progress(**fields["progress"]) if fields["progress"] else None
        return TrainerStatus(fields["busy"], fields["action"], progress)

    def answers(self) -> bool:
        """Whether there is a trainer that answers."""
        try:
            self.status()
        except TrainerUnreachable:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Wait until the trainer answers. Raises TrainerUnreachable when it does not within ``seconds``."""
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
        """Let the running work stop at its next step. True when something ran. Raises TrainerUnreachable."""
        return bool(self._question("cancel", timeout).fields["busy"])

    def _question(self, kind: str, timeout: float) -> Frame:
        with self._connect(timeout) as line:
            try:
                write_frame(line, kind)
                if line.poll(timeout):
                    return read_frame(line)
            except (EOFError, OSError) as error:
                raise TrainerUnreachable(f"the trainer went away ({error!r})") from None
        raise TrainerUnreachable(f"the trainer at {self.socket_path} did not answer within {timeout:g} seconds")

    def _connect(self, timeout: float = GREETING_SECONDS) -> Connection:
        """A line to the trainer, once both have shown that they know the key.

        ``multiprocessing.connection.Client`` does the same, but waits for ever where the trainer stands still.
        """
        check_socket_path(self.socket_path)
        with socket.socket(socket.AF_UNIX) as dialled:
            try:
                limit(dialled, timeout)
                dialled.connect(str(self.socket_path))
                line = Connection(os.dup(dialled.fileno()))
            except OSError as error:
                raise TrainerUnreachable(f"no trainer answers at {self.socket_path} ({error!r})") from None
            try:
                answer_challenge(line, self.authkey)
                deliver_challenge(line, self.authkey)
            except AuthenticationError:
                line.close()
                raise TrainerUnreachable(f"the trainer at {self.socket_path} does not take this key") from None
            except (EOFError, OSError) as error:
                line.close()
                raise TrainerUnreachable(f"no trainer answers at {self.socket_path} ({error!r})") from None
            limit(dialled, 0.0)
        return line


def limit(line: socket.socket, seconds: float) -> None:
    """Let no step of a line, nor of its copies, take longer than so many seconds; 0 for no limit."""
    time_value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        line.setsockopt(socket.SOL_SOCKET, option, time_value)


def item_of(frame: Frame) -> Progress | Result:
    """The step or the result in a frame; an error frame is raised as the error that it names."""
    if frame.kind == "progress":
        return Progress(**frame.fields)
    if frame.kind == "result":
        return Result(frame.fields["metrics"], frame.weights or {})
    raise (TrainerBusy if frame.fields.get("busy") else TrainerError)(str(frame.fields.get("reason", frame.kind)))
