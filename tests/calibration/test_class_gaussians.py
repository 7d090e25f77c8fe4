"""Sums of vectors by class, and the Gaussians that they come to, against numpy on all vectors at once."""

import re

import numpy as np
import pytest

from fedlmd.calibration.class_gaussians import SETS, added, check_sums, gaussians, square, sums_by_class

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)) + 2
LABELS = np.arange(60) % 3


def test_sums_by_hand():
    sums = sums_by_class(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([0, 2, 0]), 3)
    assert sums["sums.counts"].tolist() == [2, 0, 1]
    assert sums["sums.vectors"].tolist() == [[6, 8], [0, 0], [3, 4]]
    # 1 x 1 + 5 x 5, 1 x 2 + 5 x 6, 2 x 2 + 6 x 6
    assert sums["sums.products"].tolist() == [[26, 32, 40], [0, 0, 0], [9, 12, 16]]
    assert {array.dtype for array in sums.values()} == {np.dtype("float32")}
    assert check_sums(sums) is None


def test_the_gaussians_of_all_sites_are_numpys_of_all_vectors():
    # The workers have neither as many vectors nor the same classes.
    workers = [slice(0, 7), slice(7, 50), slice(50, 60)]
    result = gaussians(added([sums_by_class(VECTORS[rows], LABELS[rows], 4) for rows in workers]))
    assert result["gaussians.counts"].tolist() == [20, 20, 20, 0]
    covariances = square(result["gaussians.covariances"], 5)
    for label in range(3):
        members = VECTORS[label == LABELS]
        np.testing.assert_allclose(result["gaussians.means"][label], members.mean(0), rtol=1e-5)
        # Half precision has eleven digits in base two.
        theirs = np.cov(members.T, bias=True)
        np.testing.assert_allclose(covariances[label], theirs, rtol=1e-3, atol=1e-4)
    assert not result["gaussians.means"][3].any()
    assert not covariances[3].any()


def test_triangles_become_symmetric_matrices():
    assert square(np.array([[1, 2, 3]]), 2).tolist() == [[[1, 2], [2, 3]]]


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("sums.counts", None, "sums are sums.counts, sums.products, sums.vectors, not sums.products, sums.vectors"),
        ("sums.vectors", np.full((3, 5), np.nan, np.float32), "'sums.vectors' must hold finite numbers"),
        ("sums.vectors", np.ones((3, 5), int), "'sums.vectors' must hold finite numbers"),
        ("sums.vectors", np.ones((3, 4), np.float32), r"the shapes \(3,\), \(3, 4\) and \(3, 15\) do not fit"),
        ("sums.products", np.ones((3, 25), np.float32), r"the shapes \(3,\), \(3, 5\) and \(3, 25\) do not fit"),
        ("sums.counts", np.array([1, -1, 1], np.float32), "'sums.counts' must not be below 0"),
    ],
)
def test_sums_that_cannot_be_added_are_refused(name, array, message):
    sums = {**sums_by_class(VECTORS, LABELS, 3), name: array}
    reason = check_sums({key: array for key, array in sums.items() if array is not None})
    assert reason is not None
    assert re.search(message, reason)


def test_further_sets_are_kept_apart_and_checked():
    sets = [sums_by_class(VECTORS[:, :size], LABELS, 3, before) for size, before in zip((5, 3, 2), SETS, strict=True)]
    sums = sets[0] | sets[1] | sets[2]
    assert check_sums(sums) is None
    result = gaussians(added([sums, sums]))
    for size, before in zip((5, 3, 2), SETS, strict=True):
        alone = gaussians(added([sums_by_class(VECTORS[:, :size], LABELS, 3)] * 2))
        for name, array in alone.items():
            assert np.array_equal(result[before + name], array)
    for before in SETS:
        broken = {**sums, f"{before}sums.counts": np.array([1, -1, 1], np.float32)}
        assert "must not be below 0" in check_sums(broken)
    assert "sums are" in check_sums(sets[1] | sets[2])
