"""Federations drawn from a pool of scored images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.pool import Pool

WORKERS = 5

CALIBRATION, TEST = 200, 500
"""Images of a worker, where there are as many; else in the same proportion."""

UNEVEN = (400, 200, 100, 50, 20)
"""Calibration images of the workers that are otherwise alike."""

CONCENTRATION = 0.5
"""Of the Dirichlet draws of each label's shares."""

Draw = np.random.Generator


@dataclass(frozen=True, eq=False)
class DrawnWorker:
    """A worker's images, none of them in both parts nor at another worker.

    Args:
        calibration: what its thresholds are made from.
        test: what it predicts, drawn as the calibration images are.
    """

    calibration: Pool
    test: Pool

    @classmethod
    def of(cls, pool: Pool, places: NDArray[np.int64], rng: Draw, calibration: int = CALIBRATION) -> DrawnWorker:
        """A worker that holds some images of a pool, divided at random."""
        places = rng.permutation(places)
        share = min(1.0, len(places) / (calibration + TEST))
        count = max(1, math.floor(calibration * share))
        return cls(pool.take(places[:count]), pool.take(places[count : count + TEST]))


def iid(known: Pool, rng: Draw) -> list[DrawnWorker]:
    """Workers that are alike but for the number of their calibration images."""
    wanted = np.array([count + TEST for count in UNEVEN])
    share = min(1.0, len(known) / wanted.sum())
    ends = np.cumsum(np.floor(wanted * share).astype(np.int64))
    parts = np.split(rng.permutation(len(known))[: ends[-1]], ends[:-1])
    return [DrawnWorker.of(known, part, rng, count) for part, count in zip(parts, UNEVEN, strict=True)]


def label_lists(known: Pool, rng: Draw) -> list[DrawnWorker]:
    """Workers with two labels each, every label at two workers if there are as many labels as workers."""
    labels = known.losses.shape[1]
    lists = [{worker % labels, (worker + 1) % labels} for worker in range(WORKERS)]
    held: list[list[NDArray[np.int64]]] = [[] for _ in lists]
    for label in range(labels):
        sharing = [worker for worker, held_labels in enumerate(lists) if label in held_labels]
        members = rng.permutation(np.flatnonzero(known.labels == label))
        for worker, part in zip(sharing, np.array_split(members, max(len(sharing), 1)), strict=False):
            held[worker].append(part)
    return [DrawnWorker.of(known, np.concatenate(parts), rng) for parts in held]


def dirichlet(known: Pool, rng: Draw, least: int = 70) -> list[DrawnWorker]:
    """Workers whose shares of each label are drawn from Dir(0.5); drawn anew until each has ``least`` images.

    Raises:
        ValueError: when the pool is too small for that.
    """
    if len(known) < 2 * WORKERS * least:
        raise ValueError(f"{len(known)} images are too few for {WORKERS} workers with at least {least} each")
    while True:
        owner = np.empty(len(known), dtype=np.int64)
        for label in range(known.losses.shape[1]):
            members = rng.permutation(np.flatnonzero(known.labels == label))
            ends = np.round(np.cumsum(rng.dirichlet(np.full(WORKERS, CONCENTRATION)))[:-1] * len(members))
            owner[members] = np.searchsorted(ends, np.arange(len(members)), side="right")
        if np.bincount(owner, minlength=WORKERS).min() >= least:
            return [DrawnWorker.of(known, np.flatnonzero(owner == worker), rng) for worker in range(WORKERS)]


def shifted(known: Pool, elsewhere: Pool, rng: Draw) -> list[DrawnWorker]:
    """Workers that are alike, and a last one whose images of the same labels come from elsewhere."""
    most = min(CALIBRATION + TEST, len(known) // (WORKERS - 1))
    parts = np.split(rng.permutation(len(known))[: most * (WORKERS - 1)], WORKERS - 1)
    return [
        *(DrawnWorker.of(known, part, rng) for part in parts),
        DrawnWorker.of(elsewhere, np.arange(len(elsewhere)), rng),
    ]
