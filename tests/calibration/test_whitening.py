"""The whitening of maps, against the decomposition of all cells at once."""

import numpy as np
import pytest
from scipy.linalg import svd

from fedlmd.calibration import added, cell_sums, check_cell_sums, whitening
from fedlmd.calibration.whitening import LARGEST, STEP


def maps(seed, count=12, features=6):
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(count, 5, 5, features)) @ generator.normal(size=(features, features))
    return (mixed + np.arange(features)).transpose(0, 3, 1, 2).astype(np.float16)


def test_the_whitening_of_several_workers_is_that_of_all_cells_at_one_place_to_the_last_bit():
    parts = [maps(seed, count) for seed, count in ((0, 3), (1, 20), (2, 9))]
    together = whitening(cell_sums(np.concatenate(parts)), 4)
    for order in ([0, 1, 2], [2, 0, 1]):
        federated = whitening(added([cell_sums(parts[number]) for number in order]), 4)
        assert all(np.array_equal(federated[name], array) for name, array in together.items())


def test_whitened_cells_have_mean_zero_and_covariance_one():
    data = maps(3, 200)
    arrays = whitening(cell_sums(data), 6)
    vectors = data.transpose(0, 2, 3, 1).reshape(-1, 6).astype(np.float64)
    white = (vectors - arrays["encoder.mean"]) @ arrays["encoder.projection"].T
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=2e-2)


def test_the_components_are_those_of_a_singular_value_decomposition():
    data = maps(4, 50)
    vectors = data.transpose(0, 2, 3, 1).reshape(-1, 6).astype(np.float64)
    vectors = np.round(vectors / STEP) * STEP
    _, values, rows = svd(vectors - vectors.mean(0), full_matrices=False)
    projection = whitening(cell_sums(data), 3)["encoder.projection"]
    expected = rows[:3] / values[:3, None] * np.sqrt(len(vectors))
    signs = np.sign((projection * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(projection, expected * signs, rtol=1e-4, atol=1e-5)
    assert (projection[np.arange(3), np.abs(projection).argmax(1)] > 0).all()


def test_more_channels_than_features_and_maps_that_do_not_vary_are_refused():
    with pytest.raises(ValueError, match="channels is 7, but the encoder's maps have 6"):
        whitening(cell_sums(maps(0)), 7)
    with pytest.raises(ValueError, match="do not vary"):
        whitening(cell_sums(np.ones((2, 3, 4, 4), np.float16)), 2)


def spoilt(name, change):
    sums = cell_sums(maps(0))
    sums[name] = change(sums[name])
    return sums


@pytest.mark.parametrize(
    ("sums", "reason"),
    [
        ({}, "names and shapes"),
        (spoilt("cells.vectors", lambda array: array[:-1]), "names and shapes"),
        (spoilt("cells.vectors", lambda array: array * np.nan), "finite"),
        (spoilt("cells.products", lambda array: array.astype(np.float32)), "double precision"),
        (spoilt("cells.counts", lambda array: array + 0.5), "whole number"),
        (spoilt("cells.counts", lambda array: array * 0 + 1.7e308), "whole number"),
        (spoilt("cells.vectors", lambda array: array + 3e38), "exceeds"),
        (spoilt("cells.products", lambda array: -array), "squares"),
        (spoilt("cells.products", lambda array: array + 1e300), "squares"),
    ],
)
def test_sums_that_no_worker_can_have_are_refused_with_a_reason(sums, reason):
    assert reason in check_cell_sums(sums, 6)
    assert check_cell_sums(cell_sums(maps(0)), 6) is None


def test_values_beyond_the_largest_are_clipped():
    data = np.full((1, 1, 1, 1), 60000.0, np.float16)
    assert cell_sums(data)["cells.vectors"][0] == LARGEST
