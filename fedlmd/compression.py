"""Updates in 8 or 4 bits: how the weights changed, with a scale for each block of values. Needs numpy only.

What so few bits cannot say is kept at the sender and added to its next change (error feedback: Seide et al. 2014;
Karimireddy et al. 2019), so that over the rounds nothing is lost but the last remainder.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedlmd.artifacts import Weights

__all__ = [
    "BITS",
    "BLOCK",
    "NIBBLES",
    "SCALES",
    "change",
    "check_packed",
    "check_quantised",
    "compress",
    "packed",
    "quantise",
    "restore",
    "unpacked",
]

BITS = {"8-bit": 8, "4-bit": 4}
"""Bits of a value, by the name of the compression."""


BLOCK = 256
"""Values that share a scale. Each array begins with a new block, so that small numbers are not measured by others."""

SCALES = "scales"
"""The array beside the bytes: float32, one for each block, in the order of the arrays' names."""

NIBBLES = "nibbles"
"""The array that stands for all others where values have 4 bits: uint8, two values in a byte, the first one low."""


def change(weights: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]) -> Weights:
    """How weights differ from those at the start, float32."""
    return {name: array.astype(np.float32) - start[name].astype(np.float32) for name, array in weights.items()}


def quantise(values: Mapping[str, np.ndarray], bits: int = 8) -> Weights:
    """Arrays as int8 of the same names and shapes, and ``scales``; each value moves by half its block's scale at most.

    A block's scale is its largest magnitude divided by 127, or by 7 with 4 bits. Where a value is not finite its
    block's scale is not either, so that the receiver notices.

    Args:
        values: float32 arrays; none is named ``scales``.
        bits: of a value, 8 or 4.
    """
    flat, starts, levels = joined(values), blocks(values), 2 ** (bits - 1) - 1
    scales = np.maximum.reduceat(np.abs(flat), starts) / np.float32(levels)
    divisors = np.where(np.isfinite(scales) & (scales > 0), scales, np.float32(np.inf))
    steps = np.rint(np.nan_to_num(flat) / spread(divisors, starts, flat.size))
    quanta = np.clip(steps, -levels, levels).astype(np.int8)
    return {**divided(quanta, values), SCALES: scales}


def restore(update: Mapping[str, np.ndarray]) -> Weights:
    """The values that ``quantise`` wrote down, float32; the update must have passed ``check_quantised``."""
    quanta = {name: array for name, array in update.items() if name != SCALES}
    flat = joined(quanta).astype(np.float32)
    with np.errstate(over="ignore"):  # what overflows is not finite, as its receiver will notice
        values = flat * spread(update[SCALES], blocks(quanta), flat.size)
    return divided(values, quanta)


def packed(update: Mapping[str, np.ndarray]) -> Weights:
    """What ``quantise`` made with 4 bits, two values in a byte."""
    flat = joined({name: array for name, array in update.items() if name != SCALES})
    low, high = np.append(flat, np.zeros(flat.size % 2, np.int8)).reshape(-1, 2).T
    return {NIBBLES: (low & 15).astype(np.uint8) | ((high & 15).astype(np.uint8) << 4), SCALES: update[SCALES]}


def unpacked(update: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> Weights:
    """The inverse of ``packed``, for arrays of these names and shapes; the update must have passed ``check_packed``."""
    both = np.stack([update[NIBBLES] & 15, update[NIBBLES] >> 4], axis=1).astype(np.int8).ravel()
    signed = np.where(both > 7, both - 16, both).astype(np.int8)
    return {**divided(signed[: sum(array.size for array in like.values())], like), SCALES: update[SCALES]}


def check_packed(update: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> str | None:
    """Why an update of 4 bits cannot be unpacked to arrays of these names and shapes, or None when it can."""
    if update.keys() != {NIBBLES, SCALES}:
        named = ", ".join(sorted(update))
        return f"this run takes changes of weights in 4 bits, as {NIBBLES!r} and {SCALES!r}, not {named}"
    found, needed = update[NIBBLES], (sum(array.size for array in like.values()) + 1) // 2
    if found.dtype != np.uint8 or found.shape != (needed,):
        return f"{NIBBLES!r} has dtype {found.dtype} and shape {found.shape}, not uint8 and ({needed},)"
    return None


def check_quantised(update: Mapping[str, np.ndarray]) -> str | None:
    """Why an update cannot be restored, or None when it can; whose names and shapes it has is another question."""
    if SCALES not in update:
        return f"{SCALES!r} is missing; this run takes changes of weights in few bits, with their scales"
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


def compress(changed: Weights, owed: Weights, bits: int = 8) -> tuple[Weights, Weights]:
    """A round's change together with what is owed to the run, in few bits; and what remains to be sent after that.

    An update that was late or refused is lost, as whole weights are that are late or refused: the next one starts from
    another place, and a broken one must not come back. What was owed before it is owed still.

    Args:
        changed: as ``change`` gives it.
        owed: the remainder of the last update that was averaged; empty when there is none.
        bits: of a value, 8 or 4; with 4 the update is packed.
    """
    whole = {name: array + owed[name] for name, array in changed.items()} if owed else changed
    update = quantise(whole, bits)
    written = restore(update)
    remains = {name: whole[name] - written[name] for name in whole}
    return packed(update) if bits == 4 else update, remains


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
