import math

import numpy as np
import pytest

from fedlmd.calibration import CalibrationError, Moments, pool_moments


def test_pooled_moments_are_those_of_all_scores_together():
    rng = np.random.default_rng(0)
    parts = [rng.normal(mean, 1 + mean, size) for mean, size in ((0, 50), (3, 7), (10, 200))]
    pooled = pool_moments([{"lmd": {"count": len(p), "mean": p.mean(), "std": p.std()}} for p in parts])
    everything = np.concatenate(parts)
    assert pooled["lmd"]["count"] == 257
    assert pooled["lmd"]["mean"] == pytest.approx(everything.mean(), rel=1e-12)
    assert pooled["lmd"]["std"] == pytest.approx(everything.std(), rel=1e-12)


@pytest.mark.parametrize("moments", [(0, 1.0, 1.0), (3, math.nan, 1.0), (3, 1.0, -1.0), (3, 1.0, math.inf)])
def test_broken_moments_are_refused(moments):
    with pytest.raises(CalibrationError, match="moments are finite and of at least 1 image"):
        Moments(*moments)
