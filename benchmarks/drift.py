"""How soon the drift watch notices unknown images, and how often it alarms without any."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from fedlmd.calibration import DriftConfig, DriftWatch, Reference, Sketch

SHARES = (0.05, 0.1, 0.2)
"""Shares of unknown images in a stream that drifts."""

LONGEST = 10_000
"""Images of a stream, by default and in the figure of the false alarms."""

# Streams have no time of day.
NEVER = datetime(1970, 1, 1, tzinfo=UTC)

Stream = Iterator[float]


def drift_figures(
    known: NDArray[np.float64],
    unknown: NDArray[np.float64],
    calibration: int = 1000,
    seeds: Sequence[int] = range(20),
    config: DriftConfig | None = None,
    length: int = LONGEST,
) -> dict[str, float | int | None]:
    """Delay and false alarms of the watch, on streams drawn with replacement from scores that were measured.

    Args:
        known: scores of known images (K,). Each seed draws the calibration anew, and the stream from the others.
        unknown: scores of unknown images.
        calibration: how many known images the p-values are taken from, through a ``Sketch`` as a release's are.
        seeds: each gives one calibration, one stream without unknown images and one with each of ``SHARES``.
        config: how to test; None for the default.
        length: images of a stream.

    Returns:
        ``drift_delay_5pct_median`` and ``drift_delay_5pct_p90``, likewise for 10 and 20: images from the first of a
        drifting stream to the alarm; None where it had not come after ``length``.
        ``false_drift_alarms_per_10000``: in known images, the mean over the seeds; the watch is reset after each.
        ``drift_seeds``: how many seeds. ``drift_calibration_images``: how many images.

    Raises:
        ValueError: when scores are too few, or not finite.
    """
    enough = 1 <= calibration < len(known) and len(unknown) > 0 and len(seeds) > 0
    if not enough or not all(np.isfinite(scores).all() for scores in (known, unknown)):
        raise ValueError(
            f"drift is measured with finite scores of unknown images and of more than {calibration} known ones, "
            "and with seeds; some are missing"
        )
    config = DriftConfig() if config is None else config
    delays: dict[float, list[float]] = {share: [] for share in SHARES}
    alarms = []
    for seed in seeds:
        of_known, of_unknown = p_values(known, unknown, calibration, seed)
        for share, values in delays.items():
            values.append(delay(calibration, stream(of_known, of_unknown, share, seed, length), config))
        alarms.append(false_alarms(calibration, stream(of_known, of_unknown, 0.0, seed, length), config))
    figures = {
        f"drift_delay_{100 * share:.0f}pct_{name}": quantile(values, level)
        for share, values in delays.items()
        for name, level in (("median", 0.5), ("p90", 0.9))
    }
    return {
        **figures,
        "false_drift_alarms_per_10000": float(np.mean(alarms)) * (LONGEST / length),
        "drift_seeds": len(seeds),
        "drift_calibration_images": calibration,
    }


def p_values(
    known: NDArray[np.float64], unknown: NDArray[np.float64], calibration: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """p-values of the known images that a drawn calibration leaves over, and of the unknown ones."""
    order = np.random.default_rng([seed, calibration]).permutation(len(known))
    sketch = Sketch.of(known[order[:calibration]])
    left = known[order[calibration:]]
    reference = Reference.of_sketch(sketch)
    return reference.p_values(left), reference.p_values(unknown)


def stream(of_known: np.ndarray, of_unknown: np.ndarray, share: float, seed: int, length: int = LONGEST) -> Stream:
    """p-values of ``length`` images, each an unknown one's with a chance of ``share``."""
    rng = np.random.default_rng([seed, round(1000 * share)])
    is_unknown = rng.random(length) < share
    drawn = np.where(is_unknown, rng.choice(of_unknown, length), rng.choice(of_known, length))
    yield from drawn.tolist()


def delay(count: int, stream: Stream, config: DriftConfig) -> float:
    """Images up to the alarm, of a watch that begins with the stream; infinite where none comes."""
    watch = DriftWatch("bench", count, NEVER, config)
    return next((number for number, p in enumerate(stream, 1) if watch.observe(p, NEVER)), math.inf)


def false_alarms(count: int, stream: Stream, config: DriftConfig) -> int:
    """Alarms in a stream, each of them reset at once."""
    watch = DriftWatch("bench", count, NEVER, config)
    for p in stream:
        if watch.observe(p, NEVER):
            watch.reset(NEVER)
    return watch.alarms


def quantile(delays: Sequence[float], level: float) -> float | None:
    """The least delay that a share of ``level`` does not exceed; None where that is infinite."""
    value = sorted(delays)[max(0, math.ceil(level * len(delays)) - 1)]
    return value if math.isfinite(value) else None
