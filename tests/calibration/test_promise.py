import math

import numpy as np
import pytest
from scipy.stats import betabinom

from fedlmd.calibration import Reference, Sketch, pool_sketches, reference
from fedlmd.calibration.promise import (
    LEVEL,
    PromiseCheck,
    alarm_chances,
    alarm_rank,
    check_alarms,
    check_scores,
    check_sketches,
    needed,
    too_few,
    two_sided,
)
from fedlmd.calibration.sketch import LEVELS

SETTINGS = [(19, 60, 0.05), (100, 100, 0.01), (500, 200, 0.05), (997, 37, 0.08), (60, 250, 0.1)]


def reference_of(count):
    """The reference of the scores 1 to ``count``."""
    return Reference.of_sketch(Sketch.of(np.arange(1.0, count + 1)))


@pytest.mark.parametrize(("count", "images", "alpha"), SETTINGS)
def test_the_number_of_false_alarms_is_beta_binomial(count, images, alpha):
    rank = alarm_rank(reference_of(count), alpha)
    assert rank == math.floor(round(alpha * (count + 1), 9))
    expected = betabinom(images, rank, count + 1 - rank)
    chances = alarm_chances(rank, count, images)
    np.testing.assert_allclose(chances, expected.pmf(np.arange(images + 1)), rtol=1e-8, atol=1e-300)
    numbers = np.arange(images + 1)
    tails = 2 * np.minimum(expected.cdf(numbers), expected.sf(numbers - 1))
    np.testing.assert_allclose(two_sided(chances), np.minimum(tails, 1), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(("count", "alpha"), [(997, 0.2), (400, 0.5), (19, 0.2), (7, 0.3)])
def test_a_threshold_that_the_sketch_only_approaches_promises_what_it_keeps(count, alpha):
    scores = np.arange(1.0, count + 1)
    above = (scores > reference_of(count).threshold(alpha)).sum()
    assert alarm_rank(reference_of(count), alpha) == above + 1 <= alpha * (count + 1)


@pytest.mark.parametrize(("count", "images", "alpha"), SETTINGS)
def test_the_range_is_that_of_the_numbers_that_are_kept(count, images, alpha):
    checks = [check_alarms(reference_of(count), alpha, images, number, number) for number in range(images + 1)]
    kept = [check.false_alarms / images for check in checks if check.kept]
    assert {(check.low, check.high) for check in checks} == {(kept[0], kept[-1])}
    assert all(check.kept == (check.low <= check.rate <= check.high) == (check.p >= LEVEL) for check in checks)
    assert all(check.expected == alpha for check in checks)


def test_the_share_of_false_warnings_is_the_level_at_most_whatever_the_scores_distribution():
    rng = np.random.default_rng(0)
    warnings, draws = 0, 2000
    for draw in range(draws):
        scores = rng.normal(size=260) if draw % 2 else rng.exponential(size=260) ** 3
        promise = check_scores(Reference.of_sketch(Sketch.of(scores[:60])), 0.1, scores[60:])
        warnings += promise.p < 0.05
    # The p-value is exact, and its steps make it a little less than 0.05; three standard deviations are 0.015.
    assert 0.03 < warnings / draws < 0.05 + 0.015


def test_images_of_another_device_break_the_promise_with_a_sentence_that_says_so():
    rng = np.random.default_rng(1)
    reference = Reference.of_sketch(Sketch.of(rng.normal(size=500)))
    same = check_scores(reference, 0.05, rng.normal(size=600))
    assert same.kept
    assert same.sentence.startswith(
        f"false alarms on evaluation images: {same.rate:.1%} of 600, as promised (alpha 5% "
    )
    other = check_scores(reference, 0.05, rng.normal(0.5, 1, size=600))
    assert not other.kept
    assert other.p < LEVEL
    assert other.sentence == (
        f"false alarms on evaluation images: {other.rate:.1%} of 600, where alpha 5% promises {other.low:.1%} to "
        f"{other.high:.1%}: the evaluation images are drawn otherwise than those that the release was calibrated on "
        "(another device, another hand?); calibrate on images like those that it will meet"
    )


def test_too_few_false_alarms_have_another_sentence():
    promise = check_scores(reference_of(500), 0.05, np.zeros(600))
    assert (promise.false_alarms, promise.kept, promise.low > 0) == (0, False, True)
    assert "0.0% of 600" in promise.sentence
    assert "easier than those that the release was calibrated on" in promise.sentence


def test_a_check_comes_back_from_a_card_that_holds_more():
    promise = check_scores(reference_of(50), 0.05, np.arange(40.0))
    assert PromiseCheck.from_json({**vars(promise), "workers": {}}) == promise
    assert all(type(value) in (int, float, bool) for value in vars(promise).values())


def test_without_a_threshold_no_false_alarm_is_expected():
    promise = check_scores(reference_of(5), 0.05, np.arange(40.0))
    assert (promise.false_alarms, promise.low, promise.high, promise.p, promise.kept) == (0, 0.0, 0.0, 1.0, True)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="one image or more"):
        check_scores(reference_of(50), 0.05, np.zeros(0))


@pytest.mark.parametrize("counts", [(200,), (19,), (5, 12, 19), (1200, 40, 500)])
def test_sketches_give_the_check_of_the_scores_or_one_that_agrees_better(counts):
    rng = np.random.default_rng(2)
    for shift in (-0.5, 0.0, 0.4, 2.0):
        calibrated = [rng.normal(size=count) for count in counts]
        evaluated = [rng.normal(shift, 1, size=count) for count in counts]
        by_worker = reference({str(i): Sketch.of(scores) for i, scores in enumerate(calibrated)}, None)
        exact = check_scores(by_worker, 0.05, np.concatenate(evaluated))
        rough = check_sketches(by_worker, 0.05, [Sketch.of(scores) for scores in evaluated])
        assert (rough.images, rough.low, rough.high) == (exact.images, exact.low, exact.high)
        assert rough.p >= exact.p - 1e-12
        if counts == (200,) and shift <= 0:
            assert rough == exact


@pytest.mark.parametrize("count", [1, 3, 7, 19, 20, 250, 1000, 3000])
def test_a_sketch_says_how_many_images_score_higher_at_least_and_at_most(count):
    rng = np.random.default_rng(count)
    for scores in (rng.normal(size=count), rng.integers(0, 4, count).astype(float)):
        sketch = Sketch.of(scores)
        for point in [*rng.normal(size=20), *sketch.values, -9.0, 9.0, math.inf]:
            exact = int((scores > point).sum())
            assert sketch.beyond(point) <= exact <= sketch.above(np.array([point]))[0]


def test_no_worker_with_few_images_is_accused_for_its_coarse_sketch():
    rng = np.random.default_rng(3)
    broken = 0
    for _ in range(200):
        calibrated, evaluated = ([Sketch.of(rng.normal(size=19)) for _ in range(10)] for _ in range(2))
        parts = {str(number): sketch for number, sketch in enumerate(calibrated)}
        broken += not check_sketches(reference(parts, None), 0.05, evaluated).kept
    assert broken <= 2


def test_a_pooled_sketch_that_a_card_holds_can_be_checked():
    rng = np.random.default_rng(4)
    sketches = [vars(Sketch.of(rng.normal(size=100))) for _ in range(3)]
    pooled = pool_sketches([{"verdict": sketch} for sketch in sketches], LEVELS)["verdict"]
    promise = check_scores(Reference.of_sketch(Sketch.from_json(pooled)), 0.05, rng.normal(size=300))
    assert promise.kept
    assert 0.0 < promise.low < 0.05 < promise.high < 0.15


@pytest.mark.parametrize(
    ("alpha", "count"),
    [(0.05, 19), (0.01, 99), (0.1, 9), (1 / 3, 2), (0.2, 4), (0.3, 3), (0.5, 1), (0.9, 1), (0.07, 14), (1e-4, 9999)],
)
def test_an_alpha_needs_so_many_images(alpha, count):
    assert needed(alpha) == count


@pytest.mark.parametrize("count", [*range(2, 120, 3), 999, 1234])
def test_with_one_image_less_than_needed_nothing_is_called_unknown(count):
    for alpha in (1 / (count + 1), math.nextafter(1 / (count + 1), 1), 1.0001 / (count + 1)):
        assert needed(alpha) == count
        assert reference_of(count).threshold(alpha) < math.inf
        assert reference_of(count - 1).threshold(alpha) == math.inf
    assert needed(math.nextafter(1 / (count + 1), 0)) == count + 1


def test_an_absurd_alpha_needs_an_absurd_number():
    assert needed(1e-300) > 1e299


def test_too_few_images_are_refused_in_one_sentence_with_the_number_needed():
    assert too_few(19, 0.05) is None
    assert too_few(12, 0.05) == (
        "there are 12 images to calibrate with, and a calibration.alpha of 0.05 needs 19: with fewer no image could "
        "ever be called unknown; add training images or raise data.held_back, the share of them that is kept for "
        "calibration, or take an alpha of 0.077 or more"
    )
    assert "(at most 10 at each worker, as calibration.images says)" in too_few(10, 0.05, images=10)
    assert "calibration.images" not in too_few(10, 0.05, images=500)
    assert "an alpha of" not in too_few(0, 0.05)


@pytest.mark.parametrize("count", [1, 2, 7, 12, 18, 98, 998])
def test_the_alpha_that_is_advised_suffices(count):
    advised = float(too_few(count, 1e-4).rpartition("an alpha of ")[2].split()[0])
    assert too_few(count, advised) is None
