from dataclasses import asdict

import numpy as np
import pytest
import torch

from fedlmd.artifacts import half
from fedlmd.detection import LEVELS, Sketch
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import PERCENTS, Plan, StrategyPlan
from fedlmd.federation.release import (
    check_moments,
    check_sketches,
    finish_release,
    mixture_quantiles,
    pool_moments,
    pool_sketches,
    sites_of,
    threshold,
    usual_form,
)
from fedlmd.self_test import LOGITS, VERDICT


def test_pooled_moments_are_those_of_all_scores_together():
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, 1 + mean, size) for mean, size in ((0, 50), (3, 7), (10, 200))]
    pooled = pool_moments([{"lmd": {"count": len(p), "mean": p.mean(), "std": p.std()}} for p in parts])
    everything = np.concatenate(parts)
    assert pooled["lmd"]["count"] == 257
    assert pooled["lmd"]["mean"] == pytest.approx(everything.mean(), rel=1e-12)
    assert pooled["lmd"]["std"] == pytest.approx(everything.std(), rel=1e-12)


def test_the_mixture_of_one_worker_is_that_worker():
    row = [0.0, 1.0, 1.0, 4.0, 9.0]
    np.testing.assert_allclose(mixture_quantiles([3], [row], [0, 0.25, 0.5, 0.75, 1]), row)


def test_the_mixture_of_equal_workers_is_either_of_them():
    row = [-1.0, 0.0, 2.0, 2.0, 7.0]
    levels = [0, 0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(mixture_quantiles([1, 5], [row, row], levels), row, atol=1e-12)


def test_two_uniform_workers_mix_to_the_closed_form():
    # U(0, 1) with weight 1/4 and U(0, 2) with weight 3/4: F(x) = 5x/8 up to 1, then 1/4 + 3x/8.
    levels = np.linspace(0, 1, 9)
    got = mixture_quantiles([10, 30], [levels, 2 * levels], levels)
    expected = np.where(levels <= 5 / 8, levels * 8 / 5, (levels - 1 / 4) * 8 / 3)
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_workers_with_nothing_in_common_keep_the_gap_between_them():
    # Half of all scores are 0 and half are 10: nothing lies between, and the median is the lower end of the gap.
    got = mixture_quantiles([4, 4], [[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]], [0, 0.5, 1])
    np.testing.assert_allclose(got, [0, 0, 10])
    levels = [0, 0.49, 0.5, 0.51, 1]
    got = mixture_quantiles([4, 4], [[0.0] * 5, [10.0] * 5], levels)
    np.testing.assert_allclose(got, [0, 0, 0, 10, 10])


def test_levels_need_not_be_evenly_spaced():
    levels = [0, 0.5, 0.9, 0.99, 1]
    got = mixture_quantiles([1, 1], [levels, [2 * level for level in levels]], levels)
    # F(x) = 3x/4 up to 1, then 1/2 + x/4.
    expected = [4 * level / 3 if level <= 0.75 else 4 * level - 2 for level in levels]
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_the_mixture_approaches_the_quantiles_of_all_scores():
    rng = np.random.default_rng(1)
    parts = [rng.gamma(2, 1, 4000), rng.normal(6, 0.5, 1000)]
    got = mixture_quantiles([4000, 1000], [np.quantile(part, PERCENTS) for part in parts], PERCENTS)
    np.testing.assert_allclose(got[1:95], np.quantile(np.concatenate(parts), PERCENTS)[1:95], atol=0.05)
    assert (np.diff(got) >= 0).all()


def test_sketches_are_pooled_detector_by_detector():
    parts = [{"a": {"count": 1, "values": [0.0, 1.0]}, "b": {"count": 3, "values": [2.0, 2.0]}}] * 2
    pooled = pool_sketches(parts, [0.0, 1.0])
    assert pooled == {"a": {"count": 2, "values": [0.0, 1.0]}, "b": {"count": 6, "values": [2.0, 2.0]}}


def test_workers_that_share_a_name_have_no_calibration_of_their_own():
    a, b = ({"lmd": {"count": count, "values": [0.0, 1.0]}} for count in (1, 2))
    assert sites_of([Reply("a", a), Reply("b", b)]) == {"a": a, "b": b}
    assert sites_of([Reply("a", a), Reply("a", b)]) == {}


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"a": 1.0},
        {"a": {"count": 1, "mean": 0.0}},
        {"a": {"count": 0, "mean": 0.0, "std": 1.0}},
        {"a": {"count": 2, "mean": 0.0, "std": -1.0}},
        {"a": {"count": 2, "mean": float("nan"), "std": 1.0}},
    ],
)
def test_broken_moments_are_refused(bad):
    assert check_moments(bad)
    assert check_moments({"a": {"count": 2, "mean": 0.0, "std": 0.0}}) is None


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"a": [1.0]},
        {"a": {"count": 0, "values": [0.0, 1.0]}},
        {"a": {"count": 2, "values": [0.0]}},
        {"a": {"count": 2, "values": [0.0, float("inf")]}},
        {"a": {"count": 2, "values": [1.0, 0.0]}},
    ],
)
def test_broken_sketches_are_refused(bad):
    assert check_sketches(bad, [0.0, 1.0])
    assert check_sketches({"a": {"count": 2, "values": [0.0, 0.0]}}, [0.0, 1.0]) is None


def test_the_usual_form_is_that_of_most_workers_with_the_shapes_of_arrays():
    replies = [Reply("0", {"a": 1}), Reply("1", {"a": 1, "b": 2}), Reply("2", {"b": 1, "a": 2})]
    assert usual_form(replies) == {("a", ()), ("b", ())}
    arrays = [Reply(str(size), weights={"s": np.zeros((size, 2), np.float32)}) for size in (3, 5, 5)]
    assert usual_form(arrays) == {("s", (5, 2))}


def test_halved_weights_that_would_overflow_stay_whole():
    halved = half({"small": np.array([1.5, -2], np.float32), "large": np.array([1e6], np.float32)})
    assert halved["small"].dtype == np.float16
    assert halved["large"].dtype == np.float32
    np.testing.assert_array_equal(halved["small"], [1.5, -2])


def test_the_card_keeps_its_base_and_gains_calibration_metrics_and_training():
    plan = Plan(
        "r",
        3,
        "x",
        StrategyPlan("fedprox", 0.1),
        levels=(0.0, 1.0),
        card={"labels": ["0"], "calibration": {"alpha": 0.05}},
    )
    accuracy = {"count": 8, "mean": 0.75, "std": 0.43}
    moments = [Reply("s", {"a": {"count": 4, "mean": 1.0, "std": 0.5}, "accuracy": accuracy})]
    sketches = [Reply("s", {"a": {"count": 4, "values": [0.0, 3.0]}})]
    last = {"metrics": {"accuracy": 0.9}, "workers": [{"name": "s", "metrics": {"accuracy": 0.9}}]}
    card = finish_release(plan, {"w": np.zeros((2, 3))}, last, {"moments": moments, "thresholds": sketches})
    assert card["labels"] == ["0"]
    assert card["calibration"] == {
        "alpha": 0.05,
        "moments": {"a": {"count": 4, "mean": 1.0, "std": 0.5}},
        "sketches": {"a": {"count": 4, "values": [0.0, 3.0]}},
        "sites": {"s": {"a": {"count": 4, "values": [0.0, 3.0]}}},
        "workers": ["s"],
    }
    assert card["metrics"] == {"accuracy": 0.75, "images": 8, "workers": {"s": {"accuracy": 0.75}}}
    assert card["training"]["strategy"] == asdict(StrategyPlan("fedprox", 0.1))
    assert card["training"]["parameters"] == 6


@pytest.mark.parametrize("count", [3, 19, 20, 400])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.5])
def test_the_servers_threshold_is_the_one_that_answers_have(count, alpha):
    sketch = Sketch.of(torch.randn(count, generator=torch.Generator().manual_seed(count)))
    assert threshold(vars(sketch), LEVELS, alpha) == sketch.threshold(alpha)


def test_the_card_gets_a_self_test_where_the_workers_gave_findings():
    plan = Plan("r", 3, "x", levels=(0.0, 1.0), card={"calibration": {"alpha": 0.5}})
    moments = [Reply("s", {VERDICT: {"count": 100, "mean": 1.0, "std": 0.5}})]
    findings = {LOGITS: np.eye(3, dtype=np.float32), VERDICT: np.array([1.0, 10.0, 10.2], np.float32)}
    sketches = [Reply("s", {VERDICT: {"count": 100, "values": [0.0, 10.0]}}, findings)]
    card = finish_release(plan, {}, {}, {"moments": moments, "thresholds": sketches})
    # The lowest and the highest of 100 scores tell no more than that p-values are low above the highest.
    assert card["self_test"]["unknown"] == [False, False, True]
    assert card["self_test"]["findings"][LOGITS] == np.eye(3).tolist()
    without = finish_release(plan, {}, {}, {"moments": moments, "thresholds": [Reply("s", sketches[0].metrics)]})
    assert "self_test" not in without
