"""Sketches: pooling, and false-alarm rates by simulation."""

import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from fedlmd.calibration import LEVELS, CalibrationError, Moments, Reference, Sketch, pool_moments, pool_sketches
from fedlmd.calibration.sketch import mixture_quantiles
from fedlmd.detection import fuse, moments_of

PERCENTS = tuple(percent / 100 for percent in range(101))


def pooled(parts):
    """Moments of all parts together, by the function that pools those of every score."""
    return Moments(**pool_moments([{"score": asdict(part)} for part in parts])["score"])


def compared(scores):
    """What new scores are compared with when these make the sketch."""
    return Reference.of_sketch(Sketch.of(scores))


def drawn(count, seed=0):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_moments_are_numpys():
    scores = drawn(50)
    moments = moments_of(scores)
    assert moments.count == 50
    assert (moments.mean, moments.std) == pytest.approx((scores.double().mean().item(), scores.double().numpy().std()))


def test_pooled_moments_are_those_of_all_scores_together():
    parts = [drawn(3), 5 + 2 * drawn(40, seed=1), 100 * drawn(7, seed=2)]
    together, alone = pooled([moments_of(part) for part in parts]), moments_of(torch.cat(parts))
    assert together.count == 50
    assert (together.mean, together.std) == pytest.approx((alone.mean, alone.std), rel=1e-12)


def test_the_moments_of_one_site_pool_to_themselves():
    assert pooled([Moments(5, 1.5, 0.25)]) == Moments(5, 1.5, 0.25)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0], "1 known images .* at least 2"), ([], "0 known"), ([1.0, math.inf], "not finite")],
)
def test_scores_that_cannot_calibrate_are_refused(scores, message):
    with pytest.raises(CalibrationError, match=message):
        moments_of(torch.tensor(scores))


def test_fusing_sums_deviations_from_the_in_domain_means_by_hand():
    scores = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([10.0, 0.0]), "unused": torch.tensor([9.0, 9.0])}
    scale = {"a": Moments(9, 1.0, 2.0), "b": Moments(9, 5.0, 10.0)}
    assert fuse(scores, scale).tolist() == [0.5, 0.5]


def test_a_fused_score_has_mean_zero_on_its_own_images_and_is_finite_without_spread():
    scores = {"a": drawn(30), "b": 4 + drawn(30, seed=1), "flat": torch.full((30,), 2.0)}
    fused = fuse(scores, {name: moments_of(part) for name, part in scores.items()})
    assert fused.mean().item() == pytest.approx(0, abs=1e-6)
    assert fused.isfinite().all()


def test_a_sketch_holds_observed_scores_from_the_lowest_to_the_highest():
    scores = drawn(77)
    sketch = Sketch.of(scores)
    assert sketch.count == 77
    assert len(sketch.values) == len(LEVELS)
    assert (sketch.values[0], sketch.values[-1]) == (scores.min().item(), scores.max().item())
    assert set(sketch.values) <= set(scores.double().tolist())
    assert list(sketch.values) == sorted(sketch.values)


def test_the_levels_rise_from_nought_to_one():
    assert (LEVELS[0], LEVELS[-1]) == (0, 1)
    assert (np.diff(LEVELS) > 0).all()


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("count", [150, 1000])
def test_new_images_raise_alarms_at_the_promised_rate_and_not_far_below(alpha, count):
    generator = torch.Generator().manual_seed(count)
    rates = []
    for _ in range(400):
        # Uniform scores: the share of new images above a threshold is known without drawing them.
        rates.append(1 - compared(torch.rand(count, generator=generator)).threshold(alpha))
    # One observed score is worth 1 / (n + 1); "higher" quantiles may cost one, the sketch's step another.
    assert np.mean(rates) <= alpha + 3 * np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) >= alpha - 2 / (count + 1) - 3 * np.std(rates) / math.sqrt(len(rates))


def test_the_threshold_does_not_depend_on_the_scores_distribution():
    uniform = torch.rand(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rates = [
        float((uniform.exp() > compared(uniform.exp()).threshold(0.05)).double().mean()),
        float((uniform > compared(uniform).threshold(0.05)).double().mean()),
    ]
    assert rates[0] == rates[1]


@pytest.mark.parametrize(("count", "alpha"), [(2, 0.05), (18, 0.05), (98, 0.01)])
def test_with_too_few_images_no_finite_threshold_keeps_the_promise(count, alpha):
    assert compared(drawn(count)).threshold(alpha) == math.inf


@pytest.mark.parametrize(("count", "alpha"), [(19, 0.05), (99, 0.01), (9, 0.1)])
def test_with_just_enough_images_the_threshold_is_the_highest_score(count, alpha):
    scores = drawn(count)
    assert compared(scores).threshold(alpha) == scores.max().item()


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_a_false_alarm_rate_out_of_range_is_refused(alpha):
    with pytest.raises(CalibrationError, match="lies strictly between 0 and 1"):
        compared(drawn(50)).threshold(alpha)


def test_p_values_of_new_in_domain_images_are_about_uniform():
    reference = compared(drawn(2000))
    values = np.array([reference.p_value(float(score)) for score in drawn(2000, seed=1)])
    for share in (0.01, 0.05, 0.25, 0.5, 0.9):
        assert np.mean(values <= share) == pytest.approx(share, abs=0.04)


def test_p_values_fall_with_the_score_and_stay_above_nought():
    reference = compared(drawn(99))
    values = [reference.p_value(score) for score in np.linspace(-10, 10, 400)]
    assert (np.diff(values) <= 0).all()
    assert (values[0], values[-1]) == (1, pytest.approx(0.01))


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.3])
def test_a_verdict_and_its_p_value_agree_on_seen_and_unseen_scores_and_ties(alpha):
    for scores in (drawn(150), drawn(150).round(), torch.full((150,), 3.0)):
        reference = compared(scores)
        for score in [*scores.tolist(), *drawn(50, seed=9).tolist(), -9.0, 3.0, 9.0]:
            assert (score > reference.threshold(alpha)) == (reference.p_value(score) < alpha)


@pytest.mark.parametrize(
    ("count", "values"),
    [
        (0, [0.0] * len(LEVELS)),
        (5, [0.0]),
        (5, [math.nan] * len(LEVELS)),
        (5, [0.0] * (len(LEVELS) - 1) + [math.inf]),
        (5, [float(-i) for i in range(len(LEVELS))]),
    ],
)
def test_a_broken_sketch_is_refused(count, values):
    with pytest.raises(CalibrationError, match="a sketch holds"):
        Sketch(count, tuple(values))


def test_the_mixture_of_one_worker_is_that_worker():
    row = [0.0, 1.0, 1.0, 4.0, 9.0]
    np.testing.assert_allclose(mixture_quantiles([3], [row], [0.0, 0.25, 0.5, 0.75, 1.0]), row)


def test_the_mixture_of_equal_workers_is_either_of_them():
    row = [-1.0, 0.0, 2.0, 2.0, 7.0]
    levels = [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(mixture_quantiles([1, 5], [row, row], levels), row, atol=1e-12)


def test_two_uniform_workers_mix_to_the_closed_form():
    # U(0, 1) with weight 1/4 and U(0, 2) with weight 3/4: F(x) = 5x/8 up to 1, then 1/4 + 3x/8.
    levels = np.linspace(0, 1, 9)
    mixed = mixture_quantiles([10, 30], [levels.tolist(), (2 * levels).tolist()], levels.tolist())
    expected = np.where(levels <= 5 / 8, levels * 8 / 5, (levels - 1 / 4) * 8 / 3)
    np.testing.assert_allclose(mixed, expected, atol=1e-9)


def test_workers_with_nothing_in_common_keep_the_gap_between_them():
    # Half of all scores are 0 and half are 10: nothing lies between, and the median is the lower end of the gap.
    mixed = mixture_quantiles([4, 4], [[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]], [0.0, 0.5, 1.0])
    np.testing.assert_allclose(mixed, [0, 0, 10])
    levels = [0.0, 0.49, 0.5, 0.51, 1.0]
    mixed = mixture_quantiles([4, 4], [[0.0] * 5, [10.0] * 5], levels)
    np.testing.assert_allclose(mixed, [0, 0, 0, 10, 10])


def test_levels_need_not_be_evenly_spaced():
    levels = [0.0, 0.5, 0.9, 0.99, 1.0]
    mixed = mixture_quantiles([1, 1], [levels, [2 * level for level in levels]], levels)
    # F(x) = 3x/4 up to 1, then 1/2 + x/4.
    expected = [4 * level / 3 if level <= 0.75 else 4 * level - 2 for level in levels]
    np.testing.assert_allclose(mixed, expected, atol=1e-9)


def test_the_mixture_approaches_the_quantiles_of_all_scores():
    rng = np.random.default_rng(1)
    parts = [rng.gamma(2, 1, 4000), rng.normal(6, 0.5, 1000)]
    mixed = mixture_quantiles([4000, 1000], [np.quantile(part, PERCENTS).tolist() for part in parts], PERCENTS)
    np.testing.assert_allclose(mixed[1:95], np.quantile(np.concatenate(parts), PERCENTS)[1:95], atol=0.05)
    assert (np.diff(mixed) >= 0).all()


def test_sketches_are_pooled_detector_by_detector():
    parts = [{"a": {"count": 1, "values": [0.0, 1.0]}, "b": {"count": 3, "values": [2.0, 2.0]}}] * 2
    pooled = pool_sketches(parts, [0.0, 1.0])
    assert pooled == {"a": {"count": 2, "values": [0.0, 1.0]}, "b": {"count": 6, "values": [2.0, 2.0]}}


def test_sketches_of_equal_workers_pool_to_the_same_values_at_the_levels_of_a_release():
    values = [3.0 * level for level in LEVELS]
    pooled = pool_sketches([{"lmd": {"count": count, "values": values}} for count in (5, 20)], LEVELS)
    assert pooled["lmd"]["count"] == 25
    np.testing.assert_allclose(pooled["lmd"]["values"], values, atol=1e-9)
