"""Updates quantised to 8 or 4 bits: changes of the weights, with a scale for each block. Needs numpy only.

The quantisation error stays at the sender as the error-feedback residual, which is added to its next change (Seide et
al. 2014; Karimireddy et al. 2019), so that over the rounds nothing is lost but the last residual.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedlmd.release import Weights

BITS = {"8-bit": 8, "4-bit": 4}
"""Bits of a value, by the name of the compression."""

BLOCK = 256
"""Number of values that share a scale. Each array begins a new block, so that no scale spans two arrays."""

SCALES = "scales"
"""Name of the array of scales: float32, one for each block, in the order of the arrays' names."""

NIBBLES = "nibbles"
"""Name of the one array that holds all values in 4 bits: uint8, two values in a byte, the first in the low half."""


def change(weights: Mapping[str, np.ndarray], start: Mapping[str, np.ndarray]) -> Weights:
    """The difference of weights from those at the start, float32."""
    return {name: array.astype(np.float32) - start[name].astype(np.float32) for name, array in weights.items()}


def quantise(values: Mapping[str, np.ndarray], bits: int = 8) -> Weights:
    """Arrays as int8 of the same names and shapes, and ``scales``; each value moves by half its block's scale at most.

    A block's scale is its largest magnitude divided by 127, or by 7 with 4 bits. Where a value is not finite,
    neither is its block's scale, so that the receiver can refuse it.

    Args:
        values: float32 arrays; none is named ``scales``.
        bits: bits of a value, 8 or 4.
    """
    flat, starts, levels = joined(values), blocks(values), 2 ** (bits - 1) - 1
    scales = np.maximum.reduceat(np.abs(flat), starts) / np.float32(levels)
    divisors = np.where(np.isfinite(scales) & (scales > 0), scales, np.float32(np.inf))
    steps = np.rint(np.nan_to_num(flat) / spread(divisors, starts, flat.size))
    quanta = np.clip(steps, -levels, levels).astype(np.int8)
    return {**divided(quanta, values), SCALES: scales}


def restore(update: Mapping[str, np.ndarray]) -> Weights:
    """The values of a quantised update, float32; the update must have passed ``check_quantised``."""
    quanta = {name: array for name, array in update.items() if name != SCALES}
    flat = joined(quanta).astype(np.float32)
    with np.errstate(over="ignore"):  # a value that overflows is not finite, which the receiver checks
        values = flat * spread(update[SCALES], blocks(quanta), flat.size)
    return divided(values, quanta)


def packed(update: Mapping[str, np.ndarray]) -> Weights:
    """An update of ``quantise`` with 4 bits, two values in a byte."""
    flat = joined({name: array for name, array in update.items() if name != SCALES})
    low, high = np.append(flat, np.zeros(flat.size % 2, np.int8)).reshape(-1, 2).T
    return {NIBBLES: (low & 15).astype(np.uint8) | ((high & 15).astype(np.uint8) << 4), SCALES: update[SCALES]}


def unpacked(update: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> Weights:
    """The inverse of ``packed``, for arrays of these names and shapes; the update must have passed ``check_packed``."""
    halves = np.stack([update[NIBBLES] & 15, update[NIBBLES] >> 4], axis=1).astype(np.int8).ravel()
    signed = np.where(halves > 7, halves - 16, halves).astype(np.int8)
    return {**divided(signed[: sum(array.size for array in like.values())], like), SCALES: update[SCALES]}


def check_packed(update: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> str | None:
    """Why an update of 4 bits cannot be unpacked to arrays of these names and shapes, or None when it can."""
    if update.keys() != {NIBBLES, SCALES}:
        names = ", ".join(sorted(update))
        return f"this run takes changes of weights in 4 bits, as {NIBBLES!r} and {SCALES!r}, not {names}"
    nibbles, size = update[NIBBLES], (sum(array.size for array in like.values()) + 1) // 2
    if nibbles.dtype != np.uint8 or nibbles.shape != (size,):
        return f"{NIBBLES!r} has dtype {nibbles.dtype} and shape {nibbles.shape}, not uint8 and ({size},)"
    return None


def check_quantised(update: Mapping[str, np.ndarray]) -> str | None:
    """Why an update cannot be restored, or None when it can; its names and shapes are not checked here."""
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


def compress(changed: Weights, residual: Weights, bits: int = 8) -> tuple[Weights, Weights]:
    """A round's change plus the error-feedback residual, quantised; and the new residual.

    An update that was late or refused is lost, as whole weights are: the next round starts from other weights, and a
    broken update must not be sent again. Only the residual of an update that was averaged is carried on.

    Args:
        changed: as ``change`` gives it.
        residual: the residual of the last update that was averaged; empty when there is none.
        bits: bits of a value, 8 or 4; with 4 the update is packed.
    """
    whole = {name: array + residual[name] for name, array in changed.items()} if residual else changed
    update = quantise(whole, bits)
    restored = restore(update)
    remainder = {name: whole[name] - restored[name] for name in whole}
    return packed(update) if bits == 4 else update, remainder


def joined(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """All values as one flat array, in the order of the arrays' names."""
    return np.concatenate([arrays[name].ravel() for name in sorted(arrays)])


def divided(flat: np.ndarray, like: Mapping[str, np.ndarray]) -> Weights:
    """The inverse of ``joined``, for arrays of the same names and shapes."""
    names = sorted(like)
    pieces = np.split(flat, np.cumsum([like[name].size for name in names])[:-1])
    return {name: piece.reshape(like[name].shape) for name, piece in zip(names, pieces, strict=True)}


def blocks(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The positions in the joined values at which the blocks begin."""
    starts: list[int] = []
    offset = 0
    for name in sorted(arrays):
        starts.extend(range(offset, offset + arrays[name].size, BLOCK))
        offset += arrays[name].size
    return np.array(starts, dtype=np.intp)


def spread(scales: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Each block's scale, repeated for each of its values."""
    return np.repeat(scales, np.diff(starts, append=size))
