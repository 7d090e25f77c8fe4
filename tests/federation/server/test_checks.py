import pytest

from fedlmd.federation.server.checks import check_moments, check_sketches


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
