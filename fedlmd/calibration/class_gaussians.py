"""A Gaussian of embeddings for each class, from the sums of several workers. Needs numpy only.

A worker sends sums over its images: of each class the number of images, the sum of their vectors, and the sum of the
products of their coordinates. Of a class with a single image at a worker, the sum is that image's vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Arrays = dict[str, np.ndarray]

SUMS, GAUSSIANS = "sums.", "gaussians."
"""The prefixes of the arrays that workers send, and of those that a release holds."""

DESCRIBED, THUMBNAILS = "described-", "thumbnails-"
"""What precedes these prefixes for further sets: of an encoder's descriptors, of the embeddings of thumbnails."""

SETS = ("", DESCRIBED, THUMBNAILS)


def sums_by_class(vectors: np.ndarray, labels: np.ndarray, classes: int, before: str = "") -> Arrays:
    """The sums over a worker's vectors, float32.

    Args:
        vectors: (N, D).
        labels: class indices (N,), each below ``classes``.
        classes: K; there may be classes without vectors.
        before: precedes the names.

    Returns:
        ``sums.counts`` (K,), ``sums.vectors`` (K, D) and ``sums.products`` (K, D (D + 1) / 2), the upper triangle of
        the products of coordinates, row by row.
    """
    size = vectors.shape[1]
    rows, columns = np.triu_indices(size)
    counts, sums = np.zeros(classes), np.zeros((classes, size))
    products = np.zeros((classes, len(rows)))
    for label in range(classes):
        members = vectors[labels == label].astype(np.float64)
        counts[label], sums[label] = len(members), members.sum(0)
        products[label] = (members.T @ members)[rows, columns]
    arrays = {"counts": counts, "vectors": sums, "products": products}
    return {before + SUMS + name: array.astype(np.float32) for name, array in arrays.items()}


def check_sums(sums: Arrays) -> str | None:
    """Why sums cannot be added to others, or None. The set of embeddings must be there."""
    further = [
        {name.removeprefix(before): array for name, array in sums.items() if name.startswith(before)}
        for before in SETS[1:]
    ]
    first = {name: array for name, array in sums.items() if not name.startswith(SETS[1:])}
    return next((reason for part in (first, *filter(None, further)) if (reason := check_set(part))), None)


def check_set(sums: Arrays) -> str | None:
    """Why one set of sums cannot be added to others, or None."""
    wanted = {SUMS + name for name in ("counts", "vectors", "products")}
    if sums.keys() != wanted:
        return f"sums are {', '.join(sorted(wanted))}, not {', '.join(sorted(sums)) or 'nothing'}"
    for name, array in sums.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            return f"{name!r} must hold finite numbers"
    counts, vectors, products = (sums[SUMS + name] for name in ("counts", "vectors", "products"))
    size = vectors.shape[-1] if vectors.ndim else 0
    if vectors.shape != (len(counts), size) or products.shape != (len(counts), size * (size + 1) // 2):
        return f"the shapes {counts.shape}, {vectors.shape} and {products.shape} do not fit each other"
    return None if (counts >= 0).all() else f"'{SUMS}counts' must not be below 0"


def added(parts: Sequence[Arrays]) -> Arrays:
    """The workers' sums, which all have the same names and shapes, added up in double precision."""
    return {name: np.sum([part[name].astype(np.float64) for part in parts], axis=0) for name in parts[0]}


def gaussians(sums: Arrays) -> Arrays:
    """The mean and the covariance of each class, as a release holds them, of each set of sums.

    Returns:
        ``gaussians.counts`` (K,) and ``gaussians.means`` (K, D), float32; ``gaussians.covariances``
        (K, D (D + 1) / 2), the upper triangles in half precision. Of a class without vectors all are 0.
    """
    sets = [before for before in SETS if before + SUMS + "counts" in sums]
    return {name: array for before in sets for name, array in gaussians_of(sums, before).items()}


def gaussians_of(sums: Arrays, before: str) -> Arrays:
    """The Gaussians of one set of sums."""
    counts, vectors, products = (
        sums[before + SUMS + name].astype(np.float64) for name in ("counts", "vectors", "products")
    )
    rows, columns = np.triu_indices(vectors.shape[1])
    divisors = np.maximum(counts, 1)[:, None]
    means = vectors / divisors
    covariances = products / divisors - means[:, rows] * means[:, columns]
    return {
        before + GAUSSIANS + "counts": counts.astype(np.float32),
        before + GAUSSIANS + "means": means.astype(np.float32),
        before + GAUSSIANS + "covariances": covariances.astype(np.float16),
    }


def square(triangle: np.ndarray, size: int) -> np.ndarray:
    """The symmetric matrices (K, D, D) of upper triangles (K, D (D + 1) / 2)."""
    rows, columns = np.triu_indices(size)
    matrices = np.zeros((len(triangle), size, size), dtype=triangle.dtype)
    matrices[:, rows, columns] = triangle
    matrices[:, columns, rows] = triangle
    return matrices
