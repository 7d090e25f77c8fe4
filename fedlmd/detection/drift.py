"""The drift watch: are the images that are asked about still like those that the release was calibrated on?

A sequential test of the p-values of a stream of answers. What a steady stream may do is told by the calibration, and
the calibration is finite: of n images, exchangeable with the stream's, the share of future images whose conformal
p-value is at most a, given the calibration, is Beta(m, n - m + 1) distributed with m = floor(a (n + 1)) (Vovk 2012,
"Conditional validity of inductive conformal predictors"), and stochastically less where scores tie. A martingale that
takes the p-values as uniform (Vovk et al. 2003; Volkhonskiy et al. 2017) bets on that error of the calibration too, and
ends in an alarm on many a steady stream. Here the null hypothesis is composite, as in Shaer et al. 2026, "Testing for
distribution shifts with conditional conformal test martingales": at each of a few levels, given all that came before,
the next p-value lies at or below the level with a probability of at most an upper confidence limit of that Beta
distribution.

Against it stands a mixture of Shiryaev-Roberts e-detectors (Shin, Ramdas & Rinaldo 2024, "E-detectors: a nonparametric
framework for sequential change detection"). One for each level and each share s of unknown images, with limit b and
r = b + s (1 - b):

    M_t = (M_{t-1} + 1) e_t,   e_t = r / b where p_t is at or below the level, else (1 - r) / (1 - b)

Under the null E[e_t | past] <= 1, so that the mean M of them all has E[M_t] <= t, and with it an alarm at M >= c comes
after c images or more on average, and within T images with a chance of at most T / c. Nothing is assumed of the
images that come after a change.

What an alarm means: strange images come more often than the calibration can account for, by chance or by its own bad
luck. It does not say which images, nor why (another camera, a new class, a site whose images are harder than the
federation's mixture), nor that the answers are wrong. What no alarm means: not that all is well. Drift that does not
raise the detector's score is not seen (images of known classes in other proportions, mild blur, wrong labels), nor is a
share of unknown images so small that an unlucky calibration would look the same: with 500 images about 4%.

What is assumed of a steady stream: every image is drawn anew, whatever came before. The same image asked again, or
frames of one scene, are one draw that counts many times; who feeds the watch leaves repetitions out.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, final

import numpy as np

__all__ = ["Alarm", "Below", "DriftConfig", "DriftReport", "DriftState", "DriftWatch", "rate_limit"]

DriftState = Literal["steady", "drifting"]

# p-values are quotients; one that should equal a level may miss it by rounding.
TINY = 1e-9


@dataclass(frozen=True)
class DriftConfig:
    """How the watch tests.

    Args:
        levels: of the p-values that are counted, rising, in (0, 1).
        rounding: for each level, how far a p-value there may lie below the exact conformal one. 0 for exact ones; by
            default what quantiles that were pooled from several sites can be off.
        shares: of unknown images that the bets are made for, in (0, 1).
        run_length: images between two false alarms, on average, at the least.
        luck: chance that the calibration was so unlucky that this is not promised, in (0, 1).
    """

    levels: tuple[float, ...] = (0.01, 0.05, 0.2)
    rounding: tuple[float, ...] = (0.002, 0.011, 0.011)
    shares: tuple[float, ...] = (0.02, 0.06, 0.2, 0.6)
    run_length: float = 1e6
    luck: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what is no test."""
        rates = (*self.levels, *self.shares, self.luck)
        if not self.levels or not self.shares or not all(0 < rate < 1 for rate in rates):
            raise ValueError("levels, shares and luck of the drift watch lie strictly between 0 and 1; name some")
        if sorted(set(self.levels)) != list(self.levels) or len(self.rounding) != len(self.levels):
            raise ValueError("the levels of the drift watch rise, and each has its rounding")
        if not 1 <= self.run_length < math.inf or not all(0 <= by < 1 for by in self.rounding):
            raise ValueError("the drift watch's run_length is 1 or more, and finite; its rounding lies in [0, 1)")


@dataclass(frozen=True)
class Alarm:
    """That a stream drifts.

    Args:
        image: number of the image that raised the alarm, from 1.
        since: number of the image from which on the evidence grew: an estimate of where the drift began.
        time: when the alarm was raised, with a time zone.
    """

    image: int
    since: int
    time: datetime


@dataclass(frozen=True)
class Below:
    """How many p-values lay at or below a level.

    Args:
        level: in (0, 1).
        images: how many did.
        limit: largest share of a steady stream that the calibration can account for.
    """

    level: float
    images: int
    limit: float


@dataclass(frozen=True)
class DriftReport:
    """How a watch stands.

    Args:
        state: "steady", or from an alarm until a reset "drifting".
        release: whose answers are watched.
        images: counted since the watch began or was reset.
        started: when that was.
        alarm: the alarm; None while steady.
        alarms: raised by this release, those included that were reset.
        evidence: the e-detector's value: about the number of images at most in a steady stream.
        threshold: the evidence at which an alarm is raised; also the promised mean number of images between false ones.
        luck: chance that the calibration was too unlucky for that promise.
        below: the count at each level.
    """

    state: DriftState
    release: str
    images: int
    started: datetime
    alarm: Alarm | None
    alarms: int
    evidence: float
    threshold: float
    luck: float
    below: tuple[Below, ...]


def rate_limit(rank: int, count: int, luck: float) -> float:
    """What the share of future images above the ``rank``-th highest of ``count`` scores exceeds with chance ``luck``.

    The 1 - luck quantile of Beta(rank, count - rank + 1), by bisection: that share exceeds x just when fewer than
    ``rank`` of ``count`` uniform draws lie below x, a binomial tail.

    Args:
        rank: from 1 to count.
        count: images of the calibration.
        luck: in (0, 1).
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
    """The null hypothesis: a limit for each level, which all hold at once but for a chance of ``config.luck``.

    Raises:
        ValueError: when there is no image to be calibrated with.
    """
    if count < 1:
        raise ValueError(f"a calibration of {count} images cannot be watched against; 1 is the least")
    found = []
    for level, rounding in zip(config.levels, config.rounding, strict=True):
        # A level below the least p-value, 1 / (n + 1), is never reached; the first rank's limit is safe for it.
        rank = min(count, max(1, math.floor((level + rounding + TINY) * (count + 1))))
        found.append(rate_limit(rank, count, config.luck / len(config.levels)))
    return tuple(found)


@final
@dataclass
class DriftWatch:
    """Watches the stream of one release's p-values. Not for several threads at once.

    Args:
        release: id of the release whose answers are watched.
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
        """Lay out the bets: one row for each place of a p-value among the levels, one column for each e-detector."""
        self.limits = limits(self.count, self.config)
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
        """Forget all images and the alarm."""
        self.images = 0
        self.cells = np.zeros(len(self.bets), dtype=np.int64)
        self.evidence = np.zeros(self.bets.shape[1])
        # The largest of the products that the evidence sums, and the image that it started at (e-CUSUM).
        self.peak = np.zeros(self.bets.shape[1])
        self.begun = np.zeros(self.bets.shape[1], dtype=np.int64)
        self.alarm: Alarm | None = None

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
        """Acknowledge an alarm, and watch anew from the next image on. Nothing else makes a watch steady again."""
        self.started = now
        self.begin()

    def report(self) -> DriftReport:
        """How the watch stands."""
        upto = self.cells.cumsum()
        below = zip(self.config.levels, upto[:-1].tolist(), self.limits, strict=True)
        return DriftReport(
            state="steady" if self.alarm is None else "drifting",
            release=self.release,
            images=self.images,
            started=self.started,
            alarm=self.alarm,
            alarms=self.alarms,
            evidence=float(self.evidence @ self.weights),
            threshold=self.config.run_length,
            luck=self.config.luck,
            below=tuple(Below(*of) for of in below),
        )
