"""False alarms at the workers of drawn federations, counted, and how many a correctly calibrated worker has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federations import DrawnWorker
from benchmarks.pool import Pool
from fedlmd.calibration import ComparedImages, Reference, Sketch, reference

ALPHAS = (0.01, 0.05, 0.1)

MODES: tuple[ComparedImages, ...] = ("pooled", "own", "shrunk")


def references(workers: Sequence[DrawnWorker], mode: ComparedImages, losses: bool = False) -> list[Reference]:
    """What each worker compares with: its verdict's scores, or with ``losses`` the cross-entropy of true labels."""
    sketches = {}
    for number, worker in enumerate(workers):
        values = worker.calibration.true_losses if losses else worker.calibration.scores
        sketches[str(number)] = Sketch.of(values)
    return [reference(sketches, name, mode) for name in sketches]


@dataclass(frozen=True, eq=False)
class Run:
    """What happened in one federation.

    Args:
        calibration: how many calibration images each worker has.
        test: how many test images.
        alarms: false alarms among them, by calibration and alpha, of each worker.
        detected: share of unknown images called unknown, by calibration, alpha and pool, in the mean over the workers.
    """

    calibration: tuple[int, ...]
    test: tuple[int, ...]
    alarms: dict[tuple[ComparedImages, float], tuple[int, ...]]
    detected: dict[tuple[ComparedImages, float], dict[str, float]]

    @classmethod
    def of(cls, workers: Sequence[DrawnWorker], unknown: Mapping[str, Pool]) -> Run:
        """Calibrate the workers in all ways, and count alarms among their test images."""
        alarms, detected = {}, {}
        for mode in MODES:
            compared = references(workers, mode)
            for alpha in ALPHAS:
                limits = np.array([each.threshold(alpha) for each in compared])
                alarms[mode, alpha] = tuple(
                    int((worker.test.scores > limit).sum()) for worker, limit in zip(workers, limits, strict=True)
                )
                detected[mode, alpha] = {
                    name: float((pool.scores[:, None] > limits).mean()) for name, pool in unknown.items()
                }
        sizes = ((len(worker.calibration), len(worker.test)) for worker in workers)
        calibration, test = zip(*sizes, strict=True)
        return cls(calibration, test, alarms, detected)


def summary(runs: Sequence[Run], mode: ComparedImages, alpha: float) -> dict[str, Any]:
    """All runs under one calibration and one alpha: rates of the whole and of each worker, and who is outside."""
    workers, outside_in_one_run = [], 0
    for worker in range(len(runs[0].test)):
        counts = [run.alarms[mode, alpha][worker] for run in runs]
        tested = sum(run.test[worker] for run in runs)
        pmfs = [alarms_pmf(alpha, run.calibration[worker], run.test[worker]) for run in runs]
        low, high = interval(pmfs)
        outside_in_one_run += sum(not inside(count, interval([pmf])) for count, pmf in zip(counts, pmfs, strict=True))
        workers.append(
            {
                "rate": sum(counts) / tested,
                "low": low / tested,
                "high": high / tested,
                "outside": not inside(sum(counts), (low, high)),
            }
        )
    whole = [sum(run.alarms[mode, alpha]) / sum(run.test) for run in runs]
    return {
        "rate": float(np.mean(whole)),
        "workers": workers,
        "outside": sum(worker["outside"] for worker in workers),
        "outside_in_one_run": outside_in_one_run / (len(runs) * len(workers)),
        "found": {
            name: float(np.mean([run.detected[mode, alpha][name] for run in runs]))
            for name in runs[0].detected[mode, alpha]
        },
    }


def inside(count: int, ends: tuple[int, int]) -> bool:
    """Whether a number lies between two others."""
    return ends[0] <= count <= ends[1]


def alarms_pmf(alpha: float, calibration: int, test: int) -> NDArray[np.float64]:
    """Chances of 0, 1, ... ``test`` false alarms with a threshold of ``calibration`` images that keeps ``alpha``.

    The threshold's own rate is drawn from Beta(a, b), a = alpha (n + 1), b = (1 - alpha) (n + 1), as that of a split
    conformal threshold is (Vovk 2012; Bates et al. 2023, section 2), for a whole a exactly; its mean is alpha. The
    number of alarms is then beta-binomial, which is also exact where both kinds of images are drawn from one pool
    without replacement.
    """
    a, b = alpha * (calibration + 1), (1 - alpha) * (calibration + 1)
    lgamma: Callable[[NDArray[np.float64]], NDArray[np.float64]] = np.vectorize(math.lgamma, otypes=[np.float64])
    k = np.arange(test + 1, dtype=np.float64)
    ways = math.lgamma(test + 1) - lgamma(k + 1) - lgamma(test - k + 1)
    log_beta = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    chances: NDArray[np.float64] = np.exp(
        ways + log_beta + lgamma(k + a) + lgamma(test - k + b) - math.lgamma(test + a + b)
    )
    return chances


def interval(pmfs: Sequence[NDArray[np.float64]], inside: float = 0.99) -> tuple[int, int]:
    """Between which numbers a sum of independent counts lies, but for (1 - inside) / 2 on either side.

    Args:
        pmfs: of each count, its chances of 0, 1, 2, ...
        inside: share that lies inside, both ends included, at least.
    """
    total = np.ones(1)
    for pmf in pmfs:
        total = np.convolve(total, pmf)
    below, above = np.cumsum(total), np.cumsum(total[::-1])[::-1]
    tail = (1 - inside) / 2
    return int(np.argmax(below > tail)), int(len(total) - 1 - np.argmax(above[::-1] > tail))
