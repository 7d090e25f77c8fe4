"""Replies to "train": unpacked, restored and checked once, before the guard decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedlmd.federation.compression import SCALES, check_packed, check_quantised, restore, unpacked
from fedlmd.federation.messages import Reply, check_form


@dataclass(frozen=True)
class ReceivedUpdate:
    """A reply to "train", unpacked.

    Args:
        reply: under its worker's name, with whole weights.
        node: the node that sent the message.
        reason: why the reply is refused whatever its norm, or None.
        size: bytes of the message's content; 0 where there is a reason.
        norm: Euclidean norm of the change of the weights; None where there is a reason.
    """

    reply: Reply
    node: int
    reason: str | None = None
    size: int = 0
    norm: float | None = None


def restored(reply: Reply, start: Mapping[str, np.ndarray], bits: int) -> Reply:
    """The reply with whole weights in place of its quantised change, or with an error.

    Args:
        reply: its weights are an update of ``fedlmd.federation.compression.compress``.
        start: the weights that the worker was sent, those that the update changes.
        bits: bits of a value, 8 or 4.
    """
    update = reply.weights
    if bits == 4:
        if reason := check_packed(update, start):
            return replace(reply, error=reason)
        update = unpacked(update, start)
    quanta = {name: array for name, array in update.items() if name != SCALES}
    if reason := check_quantised(update) or check_form(quanta, start):
        return replace(reply, error=reason)
    changed = restore(update)
    with np.errstate(over="ignore"):  # a value that overflows is refused because it is not finite
        weights = {name: (array + changed[name]).astype(array.dtype) for name, array in start.items()}
    return replace(reply, weights=weights)
