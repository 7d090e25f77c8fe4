"""Updates in 8 bits: how the weights changed, as bytes with a scale for each block of them. Needs numpy only.

What the bytes cannot say is kept at the sender and added to its next change (error feedback: Seide et al. 2014;
Karimireddy et al. 2019), so that over the rounds nothing is lost but the last remainder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedlmd.artifacts import Weights

__all__ = ["BLOCK", "SCALES", "ErrorFeedback", "change", "check_quantised", "quantise", "restore"]

BLOCK = 256
"""Values that share a scale. Each array begins with a new block, so that small numbers are not measured by others."""

SCALES = "scales"
"""The array beside the bytes: float32, one for each block, in the order of the arrays' names."""

LEVELS = 127


def change(weights: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]) -> Weights:
    """How weights differ from those at the start, float32."""
    return {name: array.astype(np.float32) - start[name].astype(np.float32) for name, array in weights.items()}


def quantise(values: Mapping[str, np.ndarray]) -> Weights:
    """Arrays as int8 of the same names and shapes, and ``scales``; each value moves by half its block's scale at most.

    A block's scale is its largest magnitude divided by 127. Where a value is not finite its block's scale is not
    either, so that the receiver notices.

    Args:
        values: float32 arrays; none is named ``scales``.
    """
    flat, starts = joined(values), blocks(values)
    scales = np.maximum.reduceat(np.abs(flat), starts) / np.float32(LEVELS)
    divisors = np.where(np.isfinite(scales) & (scales > 0), scales, np.float32(np.inf))
    steps = np.rint(np.nan_to_num(flat) / spread(divisors, starts, flat.size))
    quanta = np.clip(steps, -LEVELS, LEVELS).astype(np.int8)
    return {**divided(quanta, values), SCALES: scales}


def restore(update: Mapping[str, np.ndarray]) -> Weights:
    """The values that ``quantise`` wrote down, float32; the update must have passed ``check_quantised``."""
    quanta = {name: array for name, array in update.items() if name != SCALES}
    flat = joined(quanta).astype(np.float32)
    with np.errstate(over="ignore"):  # what overflows is not finite, as its receiver will notice
        values = flat * spread(update[SCALES], blocks(quanta), flat.size)
    return divided(values, quanta)


def check_quantised(update: Mapping[str, np.ndarray]) -> str | None:
    """Why an update cannot be restored, or None when it can; whose names and shapes it has is another question."""
    if SCALES not in update:
        return f"{SCALES!r} is missing; this run takes changes of weights in 8 bits, with their scales"
    quanta = {name: array for name, array in update.items() if name != SCALES}
    for name, array in quanta.items():
        if array.dtype != np.int8:
            return f"{name!r} has dtype {array.dtype}, not int8"
    scales, shape = update[SCALES], blocks(quanta).shape
    if scales.dtype != np.float32 or scales.shape != shape:
        return f"{SCALES!r} has dtype {scales.dtype} and shape {scales.shape}, not float32 and {shape}"
    if not (np.isfinite(scales) & (scales >= 0)).all():
        return f"{SCALES!r} holds values that are not finite numbers of 0 or above"
    return None


@dataclass(frozen=True)
class Sent:
    """An update of which the sender does not know yet whether it was averaged.

    Args:
        number: its round.
        owed: what remains to be sent if it was.
    """

    number: int
    owed: Weights


class ErrorFeedback:
    """What a sender still owes to a run: the part of its changes that its updates could not express.

    An update that was late or refused is lost, as whole weights are that are late or refused: the next one starts from
    another place, and a broken one must not come back. What was owed before it is owed still. A sender that restarts
    owes nothing; what it forgets is half a scale of each value at most.
    """

    def __init__(self) -> None:
        self.run: str | None = None
        self.owed: Weights = {}
        self.sent: Sent | None = None

    def compress(self, changed: Weights, *, run: str, number: int, averaged: int) -> Weights:
        """Quantise a round's change together with what is owed to the run.

        Args:
            changed: as ``change`` gives it.
            run: the run's name; another one than the last time starts anew.
            number: the round.
            averaged: the last round of the run in which this sender's update was averaged, 0 for none.
        """
        if run != self.run:
            self.run, self.owed, self.sent = run, {}, None
        if self.sent is not None and self.sent.number == averaged:
            self.owed = self.sent.owed
        whole = {name: array + self.owed[name] for name, array in changed.items()} if self.owed else changed
        update = quantise(whole)
        written = restore(update)
        self.sent = Sent(number, {name: whole[name] - written[name] for name in whole})
        return update


def joined(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """All values behind one another, in the order of the arrays' names."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def divided(flat: np.ndarray, like: Mapping[str, np.ndarray]) -> Weights:
    """The inverse of ``joined``, for arrays of the same names and shapes."""
    names = sorted(like)
    pieces = np.split(flat, np.cumsum([like[name].size for name in names])[:-1])
    return {name: piece.reshape(like[name].shape) for name, piece in zip(names, pieces, strict=True)}


def blocks(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Where the blocks begin among the joined values."""
    starts: list[int] = []
    offset = 0
    for name in sorted(arrays):
        starts.extend(range(offset, offset + arrays[name].size, BLOCK))
        offset += arrays[name].size
    return np.array(starts, dtype=np.intp)


def spread(scales: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Each block's scale at each of its values."""
    return np.repeat(scales, np.diff(starts, append=size))
