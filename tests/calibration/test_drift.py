import itertools
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.stats import beta, norm

from fedlmd.calibration import Reference, Sketch
from fedlmd.calibration.drift import Alarm, DriftConfig, DriftWatch, limits, rate_limit

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
EXACT = DriftConfig(rounding=(0.0, 0.0, 0.0))


def p_values(calibration, scores):
    """The conformal p-values of scores; images with the same score count."""
    n = len(calibration)
    return (1 + n - np.searchsorted(np.sort(calibration), scores)) / (n + 1)


def first_alarm(watch, stream):
    """The number of the image that raises the alarm; infinite where none does."""
    return next((number for number, p in enumerate(stream, 1) if watch.observe(p, NOW)), math.inf)


def watch_of(count, config=EXACT):
    return DriftWatch("aaaabbbbcccc", count, NOW, config)


# The calibration's error.


@pytest.mark.parametrize(
    ("rank", "count"), [(1, 1), (1, 500), (5, 500), (25, 500), (60, 1000), (400, 400), (900, 9000)]
)
@pytest.mark.parametrize("luck", [0.3, 0.01, 1e-4])
def test_a_rates_limit_is_the_quantile_of_a_beta_distribution(rank, count, luck):
    assert rate_limit(rank, count, luck) == pytest.approx(beta.isf(luck, rank, count - rank + 1), rel=1e-9)


def test_the_limit_of_the_least_p_value_has_a_closed_form():
    assert rate_limit(1, 500, 0.01) == pytest.approx(1 - 0.01 ** (1 / 500), rel=1e-9)


def test_all_limits_hold_at_once_for_all_but_the_unlucky_calibrations():
    draws, n = 2000, 200
    rng = np.random.default_rng(0)
    config = DriftConfig(rounding=(0.0, 0.0, 0.0), luck=0.05)
    # Of scores uniform on [0, 1] the rate at a level is 1 - (the score above which the p-value is at most the level).
    scores = np.sort(rng.random((draws, n)))
    ranks = [math.floor(level * (n + 1)) for level in config.levels]
    rates = np.stack([1 - scores[:, n - rank] for rank in ranks], axis=1)
    broken = (rates > np.array(limits(n, config))).any(1).mean()
    # At most luck by the union bound; not much less, for the sake of power. Three standard deviations are 0.015.
    assert 0.02 < broken < 0.05 + 0.015


def test_a_level_that_equals_a_p_value_is_met_however_it_was_rounded():
    # 0.29 * 100 is 28.999999999999996, and 7 * 0.01 more than 0.07.
    for level, n in ((0.29, 99), (0.07, 99), (0.05, 499), (0.01, 499)):
        rank = round(level * (n + 1))
        config = DriftConfig(levels=(level,), rounding=(0.0,), luck=0.01)
        assert limits(n, config) == (rate_limit(rank, n, 0.01),)
        watch = watch_of(n, config)
        for p in (rank / (n + 1), rank * (1 / (n + 1)), (1 + n * (rank - 1) / n) / (n + 1)):
            watch.observe(p, NOW)
        watch.observe((rank + 1) / (n + 1), NOW)
        assert watch.report().below[0].images == 3


def test_a_calibration_too_small_for_a_level_never_alarms_by_its_least_p_value_of_known_images():
    # With 20 images the least p-value is 1 / 21, above the level 0.01; a steady stream has it once in 21 images.
    watch = watch_of(20)
    rng = np.random.default_rng(1)
    assert first_alarm(watch, rng.integers(1, 22, 5000) / 21) == math.inf
    assert watch.report().below[0].images == 0


def test_the_sketchs_p_values_are_exact_within_the_rounding_that_is_allowed_for():
    rng = np.random.default_rng(2)
    for n in (60, 500, 997):
        calibration = rng.normal(size=n)
        sketch = Sketch.of(calibration)
        reference = Reference.of_sketch(sketch)
        scores = np.concatenate([rng.normal(size=3000), calibration, sketch.values])
        exact, rough = p_values(calibration, scores), np.array([reference.p_value(float(s)) for s in scores])
        for level, rounding in zip(DriftConfig().levels, DriftConfig().rounding, strict=True):
            assert (exact[rough <= level] <= level + rounding + 1e-9).all()


# The test.


def test_no_bet_gains_at_the_limits_nor_below_them():
    watch = watch_of(500)
    at = np.diff(np.r_[0, watch.limits, 1])
    assert at @ watch.bets == pytest.approx(np.ones(12), abs=1e-12)
    rng = np.random.default_rng(3)
    for _ in range(50):
        below = np.sort(rng.random(3)) * watch.limits
        assert (np.diff(np.r_[0, np.maximum.accumulate(below), 1]) @ watch.bets <= 1 + 1e-12).all()


def test_evidence_is_on_average_the_number_of_images_where_the_null_hypothesis_is_just_true():
    config = DriftConfig(rounding=(0.0, 0.0, 0.0), run_length=1e300)
    chances = np.diff(np.r_[0, watch_of(500, config).limits, 1])
    cells = (0.005, 0.03, 0.1, 0.7)
    mean = 0.0
    for stream in itertools.product(range(4), repeat=5):
        watch = watch_of(500, config)
        for cell in stream:
            watch.observe(cells[cell], NOW)
        mean += chances[list(stream)].prod() * watch.report().evidence
    assert mean == pytest.approx(5, rel=1e-9)


def test_evidence_is_the_sum_of_the_bets_products_from_every_start():
    rng = np.random.default_rng(4)
    watch = watch_of(500, DriftConfig(run_length=1e300))
    stream = rng.random(40) ** 3
    cells = np.searchsorted(watch.config.levels, stream)
    for p in stream:
        watch.observe(p, NOW)
    products = [watch.bets[cells[start:]].prod(0) for start in range(40)]
    assert watch.evidence == pytest.approx(np.sum(products, 0))
    assert watch.peak == pytest.approx(np.max(products, 0))
    assert watch.report().evidence == pytest.approx(np.sum(products, 0).mean())


def unknown(rng, size):
    """Scores of unknown images, where known ones are standard normal: 93% beyond the 95% quantile, 83% beyond 99%."""
    edge, far = norm.ppf(0.95), norm.ppf(0.99)
    std = (far - edge) / (norm.ppf(0.17) - norm.ppf(0.07))
    return edge + std * (rng.normal(size=size) - norm.ppf(0.07))


def stream_of(rng, calibration, images, share):
    scores = np.where(rng.random(images) < share, unknown(rng, images), rng.normal(size=images))
    return p_values(calibration, scores)


def delays(count, share, images, draws=60):
    rng = np.random.default_rng(5)
    measured = []
    for _ in range(draws):
        calibration = rng.normal(size=count)
        measured.append(first_alarm(watch_of(count, DriftConfig()), stream_of(rng, calibration, images, share)))
    return np.array(measured)


@pytest.mark.parametrize(("count", "median", "most"), [(500, 100, 200), (1000, 80, 150)])
def test_a_fifth_of_unknown_images_is_flagged_within_a_hundred(count, median, most):
    images = delays(count, 0.2, 1000)
    assert 20 < np.median(images) <= median
    assert np.quantile(images, 0.9) <= most


def test_a_tenth_of_unknown_images_is_flagged_within_some_hundreds():
    assert 100 < np.median(delays(500, 0.1, 3000, 30)) <= 400


def test_a_fiftieth_of_unknown_images_is_within_what_an_unlucky_calibration_may_do():
    assert (delays(500, 0.02, 2000, 15) == math.inf).all()


@pytest.mark.parametrize("count", [300, 1000])
def test_steady_streams_of_ten_thousand_images_raise_no_alarm(count):
    rng = np.random.default_rng(6)
    for _ in range(6):
        assert first_alarm(watch_of(count), stream_of(rng, rng.normal(size=count), 10_000, 0.0)) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, 500, 1000])
def test_in_a_hundred_steady_streams_there_are_no_more_alarms_than_promised(count):
    rng = np.random.default_rng(7)
    alarms = sum(
        first_alarm(watch_of(count), stream_of(rng, rng.normal(size=count), 10_000, 0.0)) < math.inf for _ in range(100)
    )
    # A hundredth by the run length and a hundredth by luck: 2 are expected at most.
    assert alarms <= 2


def test_a_calibration_as_unlucky_as_is_allowed_for_raises_no_alarm():
    rng = np.random.default_rng(8)
    n = 500
    calibration = np.sort(rng.normal(size=(3000, n)))
    # The unluckiest but for one in two hundred, by the rate of p-values of at most 0.01 that it leads to.
    order = norm.sf(calibration[:, n - 5]).argsort()
    unlucky = calibration[order[-15]]
    stream = stream_of(rng, unlucky, 10_000, 0.0)
    assert (stream <= 0.01).mean() > 0.018
    assert first_alarm(watch_of(n), stream) == math.inf


def test_a_test_that_takes_p_values_as_uniform_would_raise_one_on_that_stream():
    # The same bets against limits that leave the calibration's error out, as a control of the tests above.
    rng = np.random.default_rng(8)
    n = 500
    calibration = np.sort(rng.normal(size=(3000, n)))
    unlucky = calibration[norm.sf(calibration[:, n - 5]).argsort()[-15]]
    stream = stream_of(rng, unlucky, 10_000, 0.0)
    watch = watch_of(n)
    nearly_uniform = DriftWatch("aaaabbbbcccc", 10**6, NOW, EXACT)
    assert np.array(nearly_uniform.limits) == pytest.approx(EXACT.levels, rel=0.04)
    assert first_alarm(nearly_uniform, stream) < 10_000
    assert first_alarm(watch, stream) == math.inf


def test_scores_that_tie_raise_no_alarm_on_a_steady_stream():
    rng = np.random.default_rng(9)
    for _ in range(3):
        calibration = rng.poisson(1.0, 500).astype(float)
        stream = p_values(calibration, rng.poisson(1.0, 10_000))
        assert len(np.unique(stream)) < 10
        assert first_alarm(watch_of(500), stream) == math.inf


def test_a_stream_of_one_image_over_and_over_counts_as_often_as_it_is_asked():
    # What the watch assumes of its stream, and why its owner leaves repetitions out.
    assert first_alarm(watch_of(500), itertools.repeat(1 / 501)) <= 7


# The state.


def test_a_watch_is_steady_until_its_alarm_and_drifting_until_its_reset():
    rng = np.random.default_rng(10)
    watch = watch_of(500)
    calibration = rng.normal(size=500)
    for p in stream_of(rng, calibration, 2000, 0.0):
        watch.observe(p, NOW)
    assert (watch.report().state, watch.report().alarm, watch.report().images) == ("steady", None, 2000)
    later = datetime(2026, 6, 1, tzinfo=UTC)
    raised = [p for p in stream_of(rng, calibration, 300, 0.5) if watch.observe(p, later)]
    report = watch.report()
    assert len(raised) == 1
    assert (report.state, report.alarms, report.images) == ("drifting", 1, 2300)
    assert isinstance(report.alarm, Alarm)
    assert report.alarm.time == later
    assert 1980 <= report.alarm.since <= 2010 < report.alarm.image < 2060
    assert report.evidence >= report.threshold == 1e6
    for p in stream_of(rng, calibration, 500, 0.0):
        assert not watch.observe(p, later)
    assert watch.report().alarm == report.alarm
    watch.reset(later)
    report = watch.report()
    assert (report.state, report.alarm, report.images, report.started, report.alarms) == ("steady", None, 0, later, 1)
    assert first_alarm(watch, stream_of(rng, calibration, 300, 0.5)) < 60
    assert watch.report().alarms == 2


def test_the_counts_are_those_at_or_below_each_level():
    watch = watch_of(500)
    for p in (0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 1.0):
        watch.observe(p, NOW)
    report = watch.report()
    assert [(below.level, below.images) for below in report.below] == [(0.01, 2), (0.05, 4), (0.2, 6)]
    assert [below.limit for below in report.below] == list(limits(500, EXACT))


@pytest.mark.parametrize("p_value", [0.0, -0.1, 1.01, math.nan, math.inf])
def test_what_is_no_p_value_is_refused(p_value):
    watch = watch_of(500)
    with pytest.raises(ValueError, match=r"a p-value lies in \(0, 1\]"):
        watch.observe(p_value, NOW)
    assert watch.images == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"levels": (0.05, 0.01, 0.2)}, "rise"),
        ({"levels": (0.01, 0.05)}, "rounding"),
        ({"levels": (), "rounding": ()}, "give at least one of each"),
        ({"shares": (0.0, 0.5)}, r"lie in \(0, 1\)"),
        ({"luck": 0.0}, r"luck is 0.0; it lies in \(0, 1\)"),
        ({"run_length": 0.5}, "run_length"),
        ({"run_length": math.inf}, "run_length"),
        ({"rounding": (0.0, 0.0, -0.1)}, "rounding"),
    ],
)
def test_settings_that_are_no_test_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DriftConfig(**settings)


def test_an_empty_calibration_is_refused():
    with pytest.raises(ValueError, match="a calibration of 0 images"):
        watch_of(0)
