import math

import jaxtyping
import numpy as np
import pytest
from scipy.stats import norm

from benchmarks.drift import delay, drift_figures, false_alarms, p_values, quantile, stream
from fedlmd.calibration import DriftConfig

EDGE, FAR = norm.ppf(0.95), norm.ppf(0.99)


@pytest.fixture(scope="module", autouse=True)
def unchecked():
    """Hundreds of thousands of images are observed: to check the types at each takes ten times as long as the rest."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def scores():
    """Known and unknown: of these, 93% lie above the known ones' 95% quantile, 83% above their 99%."""
    rng = np.random.default_rng(0)
    std = (FAR - EDGE) / (norm.ppf(0.17) - norm.ppf(0.07))
    unknown = EDGE + std * (rng.normal(size=4000) - norm.ppf(0.07))
    return [rng.normal(size=5000), unknown]


@pytest.fixture(scope="module")
def figures(scores):
    return drift_figures(*scores, seeds=range(20))


def test_a_fifth_is_noticed_within_a_hundred_images_and_known_ones_raise_no_alarm(figures):
    assert 20 < figures["drift_delay_20pct_median"] <= 100
    assert figures["drift_delay_20pct_median"] <= figures["drift_delay_20pct_p90"] <= 200
    assert figures["false_drift_alarms_per_10000"] <= 1
    assert figures["drift_seeds"] == 20


def test_the_smaller_the_share_the_longer_it_takes(figures):
    medians = [figures[f"drift_delay_{share}pct_median"] for share in (20, 10, 5)]
    assert medians == sorted(medians)
    assert len(figures) == 9


def test_the_same_seeds_give_the_same_figures(scores):
    assert drift_figures(*scores, seeds=[3, 4]) == drift_figures(*scores, seeds=[3, 4])


def test_what_is_never_noticed_has_no_delay(scores):
    known, _ = scores
    figures = drift_figures(known, known, seeds=[0])
    assert figures["drift_delay_20pct_median"] is None


def test_a_stream_holds_unknown_images_at_their_share():
    drawn = np.fromiter(stream(np.array([0.5]), np.array([0.002]), 0.05, 0), float)
    assert set(drawn) == {0.5, 0.002}
    # 500 are expected of 10,000, with a standard deviation of 22.
    assert abs((drawn == 0.002).sum() - 500) < 4 * 22


def test_delays_and_alarms_are_counted_image_by_image():
    config = DriftConfig()
    at = delay(500, iter([0.002] * 100), config)
    assert delay(500, iter([0.5] * 10 + [0.002] * 100), config) == 10 + at
    assert delay(500, iter([0.5] * 100), config) == math.inf
    assert false_alarms(500, iter([0.002] * int(3 * at + 1)), config) == 3


def test_a_quantile_of_delays_is_one_of_them_or_none():
    assert quantile([3, 1, 2, 4], 0.5) == 2
    assert quantile([3, 1, 2, math.inf], 0.9) is None
    assert quantile([7], 0.9) == 7


def test_each_seed_has_its_own_calibration_which_its_stream_never_holds():
    known, unknown = np.arange(100.0), np.full(3, 1000.0)
    for seed in (0, 1):
        of_known, of_unknown = p_values(known, unknown, 60, seed)
        assert len(of_known) == 40
        assert set(of_unknown) == {1 / 61}
    assert not np.array_equal(p_values(known, unknown, 60, 0)[0], of_known)


@pytest.mark.parametrize("missing", [0, 1])
def test_missing_or_broken_scores_are_refused(scores, missing):
    for wrong in (np.zeros(0), np.array([math.nan])):
        given = list(scores)
        given[missing] = wrong
        with pytest.raises(ValueError, match="finite scores of unknown images and of more than 1000 known ones"):
            drift_figures(*given)
    with pytest.raises(ValueError, match="seeds"):
        drift_figures(*scores, seeds=[])
