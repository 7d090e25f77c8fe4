import pytest

from fedlmd.federation.server.checks import check_moments, check_sketches, few_images


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


@pytest.mark.parametrize("count", [1e300, 501, 7.5, -1])
def test_a_count_that_no_worker_can_have_is_refused(count):
    assert check_sketches({"a": {"count": count, "values": [0.0, 1.0]}}, [0.0, 1.0], most=500)


def test_a_round_whose_workers_have_too_few_images_to_calibrate_with_is_warned_of():
    settings = {"calibration": {"alpha": 0.05, "images": 500}}
    workers = [{"name": name, "metrics": {"calibration-images": 9}} for name in "ab"]
    warning = few_images(workers, settings)
    assert warning.startswith(
        "at the workers of this round there are 18 images to calibrate with, and a calibration.alpha"
    )
    assert warning.endswith("unless others join, the run will end without a release")
    assert few_images([*workers, workers[0]], settings) is None
    assert few_images([*workers, {"name": "of an earlier version", "metrics": {}}], settings) is None
    assert few_images([], settings) is None
