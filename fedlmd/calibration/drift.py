"""The drift watch: are the images that are predicted still like those that the release was calibrated on?

A sequential test of the p-values of a stream of predictions. The null hypothesis comes from the calibration, which is
finite: with n images, exchangeable with the stream's, the share of future images whose conformal p-value is at most a,
given the calibration, is Beta(m, n - m + 1) distributed with m = floor(a (n + 1)) (Vovk 2012, "Conditional validity of
inductive conformal predictors"), and stochastically less where scores tie. A martingale that takes the p-values as
uniform (Vovk et al. 2003; Volkhonskiy et al. 2017) also bets on that error of the calibration and often raises an alarm
on a steady stream. Here the null hypothesis is composite, as in Shaer et al. 2026, "Testing for distribution shifts
with conditional conformal test martingales": at each of a few levels, given the past, the next p-value lies at or below
the level with a probability of at most an upper confidence limit of that Beta distribution.

It is tested by a mixture of Shiryaev-Roberts e-detectors (Shin, Ramdas & Rinaldo 2024, "E-detectors: a nonparametric
framework for sequential change detection"). One for each level and each share s of unknown images, with limit b and
r = b + s (1 - b):

    M_t = (M_{t-1} + 1) e_t,   e_t = r / b where p_t is at or below the level, else (1 - r) / (1 - b)

Under the null E[e_t | past] <= 1, so that the mean M of them all has E[M_t] <= t, and with it an alarm at M >= c comes
after c images or more on average, and within T images with a chance of at most T / c. Nothing is assumed of the
images that come after a change.

What an alarm means: images with high OOD scores come more often than the calibration can account for, by chance or by
an unlucky calibration. It does not say which images, nor why (another camera, a new class, a worker whose images are
harder than the federation's mixture), nor that the predictions are wrong. Without an alarm there may still be drift:
drift that does not raise the detector's score is not detected (images of known classes in other proportions, mild blur,
wrong labels), nor is a share of unknown images so small that an unlucky calibration would give the same: with 500
images about 4%.

What is assumed of a steady stream: images are drawn independently. The same image sent again, or frames of one scene,
are one draw that counts many times; the caller leaves repetitions out. ``fedlmd.calibration.repeats`` watches those.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, final

import numpy as np

from fedlmd.calibration.repeats import Repeats, RepeatsWatch
from fedlmd.choices import between

DriftState = Literal["steady", "drifting", "repeating"]

# p-values are quotients: one that should equal a level may differ from it by rounding.
TINY = 1e-9


@dataclass(frozen=True)
class DriftConfig:
    """How the watch tests.

    Args:
        levels: of the p-values that are counted, rising, in (0, 1).
        rounding: for each level, how far a p-value there may lie below the exact conformal one. 0 for exact ones; the
            default is the error of quantiles that were pooled from several workers.
        shares: of unknown images that the bets are made for, in (0, 1).
        run_length: images between two false alarms, on average, at least.
        luck: chance that the calibration was so unlucky that this does not hold, in (0, 1).
    """

    levels: tuple[float, ...] = (0.01, 0.05, 0.2)
    rounding: tuple[float, ...] = (0.002, 0.011, 0.011)
    shares: tuple[float, ...] = (0.02, 0.06, 0.2, 0.6)
    run_length: float = 1e6
    luck: float = 0.01

    def __post_init__(self) -> None:
        if not self.levels or not self.shares or not all(0 < rate < 1 for rate in (*self.levels, *self.shares)):
            raise ValueError("levels and shares of the drift watch lie in (0, 1); give at least one of each")
        if sorted(set(self.levels)) != list(self.levels) or len(self.rounding) != len(self.levels):
            raise ValueError("the levels of the drift watch rise, and each has its rounding")
        if not all(0 <= by < 1 for by in self.rounding):
            raise ValueError(f"rounding is {self.rounding}; each lies in [0, 1)")
        between(self, 0, 1, "luck", open_low=True, open_high=True)
        between(self, 1, math.inf, "run_length")


@dataclass(frozen=True)
class Alarm:
    """An alarm of the drift watch."""

    image: int
    """Number of the image that raised the alarm, from 1."""
    since: int
    """Estimated number of the image at which the drift began."""
    time: datetime
    """When the alarm was raised."""


@dataclass(frozen=True)
class Below:
    """How many images had a p-value of at most a level."""

    level: float
    """The level of the p-value."""
    images: int
    """How many images had a p-value of at most `level`."""
    limit: float
    """The largest share of images that the calibration explains."""


@dataclass(frozen=True)
class DriftReport:
    """State of the drift watch: whether the images still are like those of the release's calibration."""

    # The REST service describes its responses by these fields, those of the classes above, and their docstrings.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"use_attribute_docstrings": True}

    state: DriftState
    """`drifting` from an alarm until `DELETE /v1/drift` or another release; else `repeating` from an alarm of
    `repeats`, just as long."""
    release: str
    """Id of the current release; another one is watched anew."""
    images: int
    """Images counted: those since `started` that this release predicted with the default verdict and without
    `watch=false`. One that came lately does not count again."""
    started: datetime
    """When this watch began or was reset."""
    alarm: Alarm | None
    """The alarm; null while steady."""
    alarms: int
    """Alarms of this release so far, those included that were reset."""
    evidence: float
    """Evidence of drift: at most about `images` while they are steady."""
    threshold: float
    """The evidence that raises an alarm. While images are steady, alarms are at least this many images apart, on
    average."""
    luck: float
    """Probability that the drawn calibration images do not support that guarantee."""
    below: tuple[Below, ...]
    """The counts that the evidence is computed from."""
    repeats: Repeats
    """Whether the same images come again and again, as from a camera that is stuck. Repeats are not in the other
    counts."""


def rate_limit(rank: int, count: int, luck: float) -> float:
    """What the share of future images above the ``rank``-th highest of ``count`` scores exceeds with chance ``luck``.

    The 1 - luck quantile of Beta(rank, count - rank + 1), by bisection: that share exceeds x just when fewer than
    ``rank`` (1 to ``count``) of ``count`` uniform draws lie below x, a binomial tail.
    """
    drawn = np.arange(1, rank)
    ways = np.concatenate([[0.0], np.cumsum(np.log((count - drawn + 1) / drawn))])
    hits = np.arange(rank)
    low, high = 0.0, 1.0
    for _ in range(60):
        x = (low + high) / 2
        tail = float(np.exp(ways + hits * math.log(x) + (count - hits) * math.log1p(-x)).sum())
        low, high = (x, high) if tail > luck else (low, x)
    return high


def limits(count: int, config: DriftConfig) -> tuple[float, ...]:
    """The null hypothesis: a limit for each level; all hold at once except with a chance of ``config.luck``.

    Raises:
        ValueError: when there is no image to be calibrated with.
    """
    if count < 1:
        raise ValueError(f"a calibration of {count} images cannot be watched against; 1 is the least")
    rates = []
    for level, rounding in zip(config.levels, config.rounding, strict=True):
        # A level below the least p-value, 1 / (n + 1), is never reached; the first rank's limit is safe for it.
        rank = min(count, max(1, math.floor((level + rounding + TINY) * (count + 1))))
        rates.append(rate_limit(rank, count, config.luck / len(config.levels)))
    return tuple(rates)


@final
@dataclass
class DriftWatch:
    """Watches the stream of one release's p-values. Not for several threads at once.

    Args:
        release: id of the release whose predictions are watched.
        count: images of its calibration.
        started: now, with a time zone.
        config: how to test.

    Raises:
        ValueError: when the calibration is empty.
    """

    release: str
    count: int
    started: datetime
    config: DriftConfig = field(default_factory=DriftConfig)

    def __post_init__(self) -> None:
        self.limits = limits(self.count, self.config)
        # One row for each place of a p-value among the levels, one column for each e-detector.
        rows = np.arange(len(self.limits) + 1)
        bets = []
        for place, b in enumerate(self.limits):
            for share in self.config.shares:
                r = b + share * (1 - b)
                bets.append(np.where(rows <= place, r / b, (1 - r) / (1 - b)))
        self.bets = np.stack(bets, axis=1)
        self.weights = np.full(len(bets), 1 / len(bets))
        self.alarms = 0
        self.begin()

    def begin(self) -> None:
        """Start without images and alarm."""
        self.images = 0
        self.cells = np.zeros(len(self.bets), dtype=np.int64)
        self.evidence = np.zeros(self.bets.shape[1])
        # The largest of the products that the evidence sums, and the image that it started at (e-CUSUM).
        self.peak = np.zeros(self.bets.shape[1])
        self.begun = np.zeros(self.bets.shape[1], dtype=np.int64)
        self.alarm: Alarm | None = None
        self.repeats = RepeatsWatch()

    def observe(self, p_value: float, now: datetime) -> bool:
        """Count one image; whether it raised an alarm. After an alarm images are counted, but nothing is tested.

        Raises:
            ValueError: when the p-value is out of (0, 1].
        """
        if not 0 < p_value <= 1:
            raise ValueError(f"a p-value lies in (0, 1], not at {p_value}")
        cell = bisect_left(self.config.levels, p_value - TINY)
        self.cells[cell] += 1
        self.images += 1
        if self.alarm is not None:
            return False
        self.begun = np.where(self.peak > 1, self.begun, self.images)
        self.peak = np.maximum(self.peak, 1) * self.bets[cell]
        self.evidence = (self.evidence + 1) * self.bets[cell]
        if self.evidence @ self.weights < self.config.run_length:
            return False
        self.alarm = Alarm(self.images, int(self.begun[self.evidence.argmax()]), now)
        self.alarms += 1
        return True

    def reset(self, now: datetime) -> None:
        """Acknowledge an alarm, and start anew with the next image. Nothing else makes a watch steady again."""
        self.started = now
        self.begin()

    @property
    def state(self) -> DriftState:
        """The state in a word."""
        if self.alarm is not None:
            return "drifting"
        return "steady" if self.repeats.alarm is None else "repeating"

    def report(self) -> DriftReport:
        """The state of the watch."""
        upto = self.cells.cumsum()
        below = zip(self.config.levels, upto[:-1].tolist(), self.limits, strict=True)
        return DriftReport(
            state=self.state,
            release=self.release,
            images=self.images,
            started=self.started,
            alarm=self.alarm,
            alarms=self.alarms,
            evidence=float(self.evidence @ self.weights),
            threshold=self.config.run_length,
            luck=self.config.luck,
            below=tuple(Below(*counted) for counted in below),
            repeats=self.repeats.report(),
        )
