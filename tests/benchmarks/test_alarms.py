import numpy as np
import pytest
from scipy import stats

from benchmarks.alarms import MODES, Run, alarms_pmf, interval, summary
from benchmarks.federations import iid, shifted
from benchmarks.pool import Pool


def pool(scores):
    return Pool(scores, np.zeros((len(scores), 5)), np.zeros(len(scores), dtype=np.int64))


@pytest.mark.parametrize(("alpha", "calibration", "test"), [(0.05, 200, 500), (0.01, 20, 50), (0.1, 39, 7)])
def test_the_chances_of_alarms_are_scipys_beta_binomial(alpha, calibration, test):
    of = stats.betabinom(test, alpha * (calibration + 1), (1 - alpha) * (calibration + 1))
    np.testing.assert_allclose(alarms_pmf(alpha, calibration, test), of.pmf(np.arange(test + 1)), rtol=1e-7, atol=1e-12)


def test_the_number_of_alarms_is_beta_binomial_where_both_kinds_come_from_one_pool_without_replacement():
    rng, found = np.random.default_rng(0), []
    for _ in range(4000):
        drawn = rng.permutation(120)[:79]
        limit = np.sort(drawn[:39])[-4]  # above it: 4 of 40, itself among them
        found.append(int((drawn[39:] > limit).sum()))
    observed = np.bincount(found, minlength=41)[:41]
    expected = 4000 * alarms_pmf(0.1, 39, 40)
    tested = np.append(observed[:12], observed[12:].sum()), np.append(expected[:12], expected[12:].sum())
    assert stats.chisquare(*tested).pvalue > 0.001


def test_an_interval_leaves_half_a_percent_on_either_side():
    fair = np.array([0.5, 0.5])
    low, high = interval([fair] * 100)
    assert (low, high) == stats.binom(100, 0.5).interval(0.99)
    assert interval([np.array([0.0, 0.0, 1.0])]) == (2, 2)


def test_a_sound_worker_is_outside_in_about_one_of_a_hundred_cases():
    pmf = alarms_pmf(0.05, 100, 200)
    low, high = interval([pmf])
    assert pmf[low : high + 1].sum() == pytest.approx(0.99, abs=0.006)
    assert pmf[low : high + 1].sum() >= 0.99


def test_shifted_workers_are_outside_with_pooled_calibration_and_inside_with_their_own():
    scores = np.random.default_rng(1).standard_normal(4000)
    known, elsewhere = pool(scores[:3000]), pool(scores[3000:] + 2)
    runs = [
        Run.of(shifted(known, elsewhere, np.random.default_rng(seed)), {"far": pool(scores + 9)}) for seed in range(8)
    ]
    outside = {mode: summary(runs, mode, 0.05)["outside"] for mode in MODES}
    assert outside == {"pooled": 5, "own": 0, "shrunk": 0}
    told = summary(runs, "own", 0.05)
    assert told["found"] == {"far": 1.0}
    assert told["outside_in_one_run"] <= 0.1
    assert told["rate"] == pytest.approx(np.mean([worker["rate"] for worker in told["workers"]]))


def test_a_run_counts_the_alarms_of_each_worker_by_hand():
    known = pool(np.random.default_rng(2).standard_normal(5139))
    workers = iid(known, np.random.default_rng(3))
    run = Run.of(workers, {})
    assert run.calibration == (400, 200, 100, 50, 20)
    # 1 of 20 + 1 may be called unknown: those above the highest calibration score.
    highest = workers[4].calibration.scores.max()
    assert run.alarms["own", 0.05][4] == int((workers[4].test.scores > highest).sum())
    assert run.alarms["own", 0.01][4] == 0
