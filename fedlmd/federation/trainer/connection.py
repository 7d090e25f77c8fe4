"""Connections to a warm trainer: frames over a Unix socket, JSON with arrays as safetensors, never a pickle.

A frame is one JSON object ``{"kind": ...}``; where its ``"weights"`` is true, a second message with the arrays in
safetensors format follows. Client to trainer: "request", "status", "cancel". Trainer to client: "progress", "result",
"error", "status", "cancelled". One connection carries one call.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

# AF_UNIX takes 108 bytes on Linux and 104 on macOS, the terminating zero included.
LONGEST_PATH = 100


@dataclass(frozen=True)
class Frame:
    """One message of a connection.

    Args:
        kind: see the module's text.
        fields: the rest of its JSON object.
        weights: arrays by name, or None.
    """

    kind: str
    fields: dict[str, Any]
    weights: dict[str, np.ndarray] | None = None


def check_socket_path(path: Path) -> None:
    """Raise ValueError when a path is too long for a Unix socket."""
    length = len(os.fsencode(path))
    if length > LONGEST_PATH:
        raise ValueError(
            f"the socket path {path} has {length} bytes; at most {LONGEST_PATH} work: choose a shorter folder"
        )


def write_frame(
    connection: Connection, kind: str, weights: Mapping[str, np.ndarray] | None = None, **fields: object
) -> None:
    """Send one frame. Raises OSError when the other side is gone."""
    head = {"kind": kind, "weights": weights is not None, **fields}
    connection.send_bytes(json.dumps(head).encode())
    if weights is not None:
        connection.send_bytes(save_arrays({name: np.ascontiguousarray(array) for name, array in weights.items()}))


def read_frame(connection: Connection) -> Frame:
    """Receive one frame. Raises EOFError or OSError when the other side is gone."""
    head = json.loads(connection.recv_bytes())
    arrays = load_arrays(connection.recv_bytes()) if head.pop("weights", False) else None
    return Frame(head.pop("kind"), head, arrays)


def connect(path: Path, authkey: bytes, timeout: float) -> Connection:
    """A connection to the trainer at a socket, after a handshake in which both prove that they know the key.

    ``multiprocessing.connection.Client`` does the same, but waits without end where the trainer hangs.

    Args:
        path: the trainer's socket.
        authkey: the secret.
        timeout: seconds that each step of the handshake may take.

    Raises:
        AuthenticationError: when the trainer has another key.
        EOFError, OSError: when there is no trainer, or it does not respond in time.
    """
    check_socket_path(path)
    with socket.socket(socket.AF_UNIX) as opened:
        set_timeout(opened, timeout)
        opened.connect(str(path))
        connection = Connection(os.dup(opened.fileno()))
        try:
            answer_challenge(connection, authkey)
            deliver_challenge(connection, authkey)
        except (AuthenticationError, EOFError, OSError):
            connection.close()
            raise
        set_timeout(opened, 0.0)
    return connection


def set_timeout(opened: socket.socket, seconds: float) -> None:
    """Limit the seconds of each step of a connection and of its duplicates; 0 for no limit."""
    time_value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        opened.setsockopt(socket.SOL_SOCKET, option, time_value)
