"""Whitening of an encoder's maps: leading principal components, from the exact sums of several workers. Numpy only.

The vector of a cell is what the maps have at one position. A worker sends sums over the cells of its training images:
their number, the sum of their vectors, and the sum of the products of their features. Values are rounded to multiples
of ``STEP`` first: all sums are then whole multiples of its square, which double precision holds exactly below 2 ** 53
of them: 500 million cells of features around 1. So the result does not depend on which worker has which image, nor on
the order of adding, to the last bit.
"""

from __future__ import annotations

import numpy as np

from fedlmd.calibration.class_gaussians import Arrays, square

CELLS, ENCODER = "cells.", "encoder."
"""The prefixes of the arrays that workers send, and of those that a release holds."""

STEP, LARGEST = 2.0**-12, 1024.0
"""Values are rounded to multiples of the one and clipped at the other."""

MOST_CELLS = 2.0**40

FLOOR = 1e-6
"""Components with less variance than this share of the largest one's are not enlarged beyond it."""


def cell_sums(maps: np.ndarray) -> Arrays:
    """The sums over the cells of some images' maps, double precision.

    Args:
        maps: (N, D, h, w).

    Returns:
        ``cells.counts`` (1,), ``cells.vectors`` (D,) and ``cells.products`` (D (D + 1) / 2), the upper triangle of the
        products of features, row by row.
    """
    size = maps.shape[1]
    vectors = maps.transpose(0, 2, 3, 1).reshape(-1, size).astype(np.float64)
    steps = np.round(np.clip(vectors, -LARGEST, LARGEST) / STEP)
    products = (steps.T @ steps)[np.triu_indices(size)]
    arrays = {"counts": np.array([float(len(steps))]), "vectors": steps.sum(0) * STEP, "products": products * STEP**2}
    return {CELLS + name: array for name, array in arrays.items()}


def check_cell_sums(sums: Arrays, features: int) -> str | None:
    """Why sums cannot be added to others, or None; ``features`` is D."""
    wanted = {"counts": (1,), "vectors": (features,), "products": (features * (features + 1) // 2,)}
    shapes = {CELLS + name: shape for name, shape in wanted.items()}
    if {name: array.shape for name, array in sums.items()} != shapes:
        return f"sums of cells must have the names and shapes {shapes}"
    if any(array.dtype != np.float64 or not np.isfinite(array).all() for array in sums.values()):
        return "sums of cells must be finite numbers in double precision"
    count = float(sums[CELLS + "counts"][0])
    if count < 1 or count != round(count) or count > MOST_CELLS:
        return f"the number of cells is {count:g}; it must be a whole number from 1 on"
    if np.abs(sums[CELLS + "vectors"]).max() > count * LARGEST:
        return f"the sum of the cells' vectors exceeds {LARGEST:g} for each cell"
    squares = sums[CELLS + "products"][diagonal(features)]
    if squares.min() < 0 or squares.max() > count * LARGEST**2:
        return f"the sums of the cells' squares lie outside of 0 to {LARGEST**2:g} for each cell"
    return None


def diagonal(size: int) -> np.ndarray:
    """Positions of a matrix's diagonal (D,) in its upper triangle, row by row."""
    return np.cumsum(np.r_[0, np.arange(size, 1, -1)])


def whitening(sums: Arrays, channels: int, leading: int = 0) -> Arrays:
    """The whitening by principal components (Kessy, Lewin & Strimmer 2018, PCA whitening) of the cells of all workers.

    Args:
        sums: of all workers' cells, added.
        channels: number of components that are kept, C, at most D.
        leading: the components are of so many of the first features; 0 for all.

    Returns:
        ``encoder.mean`` (D,) and ``encoder.projection`` (C, D), float32: ``projection @ (vector - mean)`` has mean 0
        and covariance 1 over the cells. ``encoder.deviation`` (D,): the features' standard deviations.

    Raises:
        ValueError: there are fewer features than channels, or nothing varies.
    """
    count, vectors = float(sums[CELLS + "counts"][0]), sums[CELLS + "vectors"]
    size = len(vectors)
    used = leading or size
    if channels > used:
        raise ValueError(f"encoder.channels is {channels}, but the encoder's maps have {used}; take {used} at most")
    mean = vectors / count
    covariance = square(sums[CELLS + "products"][None], size)[0] / count - np.outer(mean, mean)
    variances, components = np.linalg.eigh(covariance[:used, :used])
    variances, components = variances[::-1][:channels], components[:, ::-1][:, :channels]
    if not variances[0] > 0:
        raise ValueError("the encoder's maps of the training images do not vary; use other images or another encoder")
    # The sign of a component is free; its largest entry is made positive.
    signs = np.sign(components[np.abs(components).argmax(0), np.arange(channels)])
    projection = np.zeros((channels, size))
    projection[:, :used] = (components * signs / np.sqrt(np.maximum(variances, FLOOR * variances[0]))).T
    deviation = np.sqrt(np.maximum(covariance.diagonal(), FLOOR * variances[0]))
    arrays = {"mean": mean, "projection": projection, "deviation": deviation}
    return {ENCODER + name: array.astype(np.float32) for name, array in arrays.items()}
