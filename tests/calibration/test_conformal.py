"""References: exact p-values, rates by simulation, bounds that hold whatever the other workers hold."""

import math

import numpy as np
import pytest
import torch

from fedlmd.calibration import LEVELS, Reference, Sketch, decide, reference
from fedlmd.calibration.conformal import KAPPA


def drawn(count, rng, shift=0.0):
    return torch.from_numpy(shift + rng.standard_normal(count))


def test_the_p_value_of_few_scores_is_one_plus_those_that_score_no_lower_over_one_plus_all():
    rng = np.random.default_rng(0)
    for count in (20, 57, 91):
        scores = drawn(count, rng).round(decimals=1)  # with ties
        compared = reference({"a": Sketch.of(scores)}, "a", "own")
        for score in [*scores.tolist(), *drawn(30, rng).tolist()]:
            assert compared.p_value(score) == (1 + int((scores >= score).sum())) / (1 + count)


def test_pooled_is_the_p_value_of_all_scores_together():
    rng = np.random.default_rng(1)
    parts = [drawn(count, rng, shift) for count, shift in ((30, 0.0), (50, 1.0), (25, -1.0))]
    compared = reference({str(i): Sketch.of(part) for i, part in enumerate(parts)}, "1", "pooled")
    everything = torch.cat(parts)
    for score in np.linspace(-4, 4, 60):
        assert compared.p_value(score) == pytest.approx((1 + int((everything >= score).sum())) / 106)


def test_shrunk_is_the_mixture_by_hand():
    rng = np.random.default_rng(2)
    own, others = drawn(40, rng), [drawn(50, rng, 1.0), drawn(30, rng, 2.0)]
    sketches = {"own": Sketch.of(own), "a": Sketch.of(others[0]), "b": Sketch.of(others[1])}
    compared, elsewhere = reference(sketches, "own", "shrunk", kappa=16.0), torch.cat(others)
    for score in np.linspace(-4, 4, 60):
        share = int((elsewhere >= score).sum()) / 80
        assert compared.p_value(score) == pytest.approx((1 + int((own >= score).sum()) + 16 * share) / (1 + 40 + 16))


def test_no_image_of_another_worker_counts_for_more_than_one_of_the_workers_own():
    rng = np.random.default_rng(3)
    sketches = {"own": Sketch.of(drawn(30, rng)), "other": Sketch.of(drawn(25, rng))}
    shrunk, pooled = (reference(sketches, "own", how, kappa=1e6) for how in ("shrunk", "pooled"))
    np.testing.assert_allclose(shrunk.tails, pooled.tails)


@pytest.mark.parametrize("worker", [None, "elsewhere"])
def test_a_worker_without_a_sketch_is_compared_with_all(worker):
    rng = np.random.default_rng(4)
    sketches = {name: Sketch.of(drawn(30, rng)) for name in "ab"}
    compared = reference(sketches, worker, "own")
    np.testing.assert_array_equal(compared.tails, reference(sketches, "a", "pooled").tails)


@pytest.mark.parametrize("how", ["pooled", "own", "shrunk"])
def test_a_verdict_and_its_p_value_agree_for_random_sketches_scores_and_rates(how):
    rng = np.random.default_rng(5)
    for _ in range(60):
        counts = rng.integers(1, 600, size=rng.integers(1, 5))
        decimals = int(rng.integers(0, 6))  # ties at times
        parts = {str(i): drawn(count, rng, i * 0.5).round(decimals=decimals) for i, count in enumerate(counts)}
        compared = reference({name: Sketch.of(part) for name, part in parts.items()}, "0", how)
        # Rates at which the p-values themselves lie are the ones where rounding could make the two differ.
        for alpha in [*rng.uniform(0.001, 0.999, 4), *rng.choice(compared.tails, 4), 0.05]:
            if alpha >= 1:
                continue
            scores = np.concatenate([*(part.numpy()[:20] for part in parts.values()), rng.standard_normal(9), [-9, 9]])
            np.testing.assert_array_equal(scores > compared.threshold(alpha), compared.p_values(scores) <= alpha)


def rates(how, count, shift, rng, runs=500, alpha=0.05, kappa=KAPPA):
    """False-alarm rates at a worker whose scores are uniform on (shift, 1 + shift), the four others' on (0, 1)."""
    measured = []
    for _ in range(runs):
        parts = {"own": torch.from_numpy(shift + rng.random(count))}
        parts |= {str(i): torch.from_numpy(rng.random(60)) for i in range(4)}
        limit = reference({name: Sketch.of(part) for name, part in parts.items()}, "own", how, kappa).threshold(alpha)
        measured.append(min(max(1 + shift - limit, 0.0), 1.0))
    return np.array(measured)


@pytest.mark.parametrize("how", ["pooled", "own", "shrunk"])
@pytest.mark.parametrize("count", [20, 100])
def test_where_all_workers_are_alike_the_rate_is_kept_on_average(how, count):
    measured = rates(how, count, 0.0, np.random.default_rng(count))
    slack = 3 * measured.std() / math.sqrt(len(measured))
    assert measured.mean() <= 0.05 + slack
    assert measured.mean() >= 0.05 - 2 / (count + 1) - slack


def test_a_shifted_worker_keeps_its_rate_by_its_own_images_and_nearly_by_the_shrunk_ones():
    rng, count = np.random.default_rng(6), 100
    pooled, own, shrunk = (rates(how, count, 0.3, rng) for how in ("pooled", "own", "shrunk"))
    slack = 3 * shrunk.std() / math.sqrt(len(shrunk))
    assert pooled.mean() > 0.15
    assert own.mean() <= 0.05 + slack
    # Whatever the others hold: alpha (1 + kappa / (n + 1)).
    assert shrunk.mean() <= 0.05 * (1 + 10 / 101) + slack


def test_where_all_workers_are_alike_shrinking_makes_the_rate_vary_less():
    own, shrunk = (rates(how, 100, 0.0, np.random.default_rng(7), alpha=0.1, kappa=100.0) for how in ("own", "shrunk"))
    assert np.sqrt(np.mean((shrunk - 0.1) ** 2)) < 0.8 * np.sqrt(np.mean((own - 0.1) ** 2))


def test_the_p_value_of_shrunk_images_bounds_that_of_the_workers_own():
    rng = np.random.default_rng(8)
    for shift in (-3.0, 0.0, 3.0):
        sketches = {"own": Sketch.of(drawn(60, rng)), "other": Sketch.of(drawn(200, rng, shift))}
        own, shrunk = (reference(sketches, "own", how) for how in ("own", "shrunk"))
        scores = np.linspace(-5, 5, 200)
        assert (shrunk.p_values(scores) * (1 + 10 / 61) >= own.p_values(scores) - 1e-12).all()


def test_a_worker_with_few_images_sends_four_numbers_and_keeps_its_rate():
    rng = np.random.default_rng(9)
    for count in range(1, 20):
        scores = drawn(count, rng)
        sketch = Sketch.of(scores)
        assert len(set(sketch.values)) <= 4
        assert sketch.values[-1] == float(scores.max())
        compared = Reference.of([(sketch, 1.0)])
        for score in [*scores.tolist(), *drawn(20, rng).tolist()]:
            assert compared.p_value(score) >= (1 + int((scores >= score).sum())) / (1 + count)


def test_a_worker_sends_no_more_numbers_than_there_are_levels_each_an_observed_score():
    scores = drawn(5000, np.random.default_rng(10))
    sketch = Sketch.of(scores)
    assert len(sketch.values) == len(LEVELS) == 191
    assert set(sketch.values) <= set(scores.tolist())


def test_the_p_value_of_many_scores_is_never_below_the_exact_one_and_exact_where_alarms_are_raised():
    rng = np.random.default_rng(11)
    scores = drawn(1000, rng)
    compared = Reference.of([(Sketch.of(scores), 1.0)])
    exact = np.array([(1 + int((scores >= score).sum())) / 1001 for score in scores.tolist()])
    p_values = compared.p_values(scores.numpy())
    assert (p_values >= exact).all()
    np.testing.assert_array_equal(p_values[exact <= 0.1], exact[exact <= 0.1])
    assert (p_values - exact).max() <= 0.011


@pytest.mark.parametrize(
    ("p_value", "plausible", "verdict"),
    [
        (0.05, 1, "unknown"),
        (0.0501, 1, "uncertain"),
        (0.2, 1, "uncertain"),
        (0.21, 1, "known"),
        (0.9, 0, "uncertain"),
        (0.9, 2, "uncertain"),
        (0.01, 2, "unknown"),
    ],
)
def test_an_image_is_known_only_where_its_p_value_is_high_and_one_label_is_plausible(p_value, plausible, verdict):
    assert decide(p_value, 0.05, 0.2, plausible) == verdict


def test_of_known_images_no_more_than_alpha_are_called_known_under_a_wrong_label():
    """Two labels that overlap: the share of wrong ones among all would be 0.16 without the label set."""
    rng = np.random.default_rng(12)
    wrong, known, right = [], [], []
    for _ in range(300):
        labels = rng.integers(0, 2, 300)
        logits = 2 * np.stack([-(rng.standard_normal(300) + labels * 2 - 1), np.zeros(300)], 1)
        losses = np.logaddexp(logits[:, :1], logits[:, 1:]) - logits
        of_labels = torch.from_numpy(losses[np.arange(300), labels])
        classes = Reference.of([(Sketch.of(of_labels[:100]), 1.0)])
        sole = (classes.p_values(losses[100:]) > 0.05).sum(1) == 1
        is_right = losses[100:].argmin(1) == labels[100:]
        wrong.append(np.mean(sole & ~is_right))
        known.append(np.mean(sole))
        right.append(np.mean(is_right))
    assert np.mean(right) == pytest.approx(0.84, abs=0.01)
    assert np.mean(wrong) <= 0.05 + 3 * np.std(wrong) / math.sqrt(300)
    assert np.mean(known) > 0.4
