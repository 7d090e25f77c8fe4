import tracemalloc

import numpy as np
import pytest

from fedlmd.federation.aggregation import MovingAverage, RunningFigures, RunningMean

GENERATOR = np.random.default_rng(0)
MODELS = [
    {"v": GENERATOR.normal(size=600).astype(np.float32), "w": GENERATOR.normal(size=(2, 3)).astype(np.float16)}
    for _ in range(7)
]
IMAGES = [1, 5, 300, 2, 80, 7, 7]


def test_a_running_mean_is_the_weighted_mean_of_all_models():
    mean = RunningMean()
    for model, weight in zip(MODELS, IMAGES, strict=True):
        mean.add(model, weight)
    for name in ("v", "w"):
        stacked = np.stack([model[name].astype(np.float64) for model in MODELS])
        expected = np.average(stacked, axis=0, weights=IMAGES).astype(MODELS[0][name].dtype)
        np.testing.assert_array_equal(mean.mean()[name], expected)
        assert mean.mean()[name].dtype == expected.dtype


def test_the_order_of_the_models_changes_a_running_mean_by_rounding_at_most():
    forwards, backwards = RunningMean(), RunningMean()
    for model, weight in zip(MODELS, IMAGES, strict=True):
        forwards.add(model, weight)
    for model, weight in reversed(list(zip(MODELS, IMAGES, strict=True))):
        backwards.add(model, weight)
    np.testing.assert_allclose(forwards.means["v"], backwards.means["v"], rtol=0, atol=1e-14)


def test_the_largest_numbers_of_float32_do_not_overflow_a_running_mean():
    mean, largest = RunningMean(), np.finfo(np.float32).max
    for _ in range(100):
        mean.add({"w": np.array([largest, -largest], np.float32)}, 1e300)
    np.testing.assert_array_equal(mean.mean()["w"], [largest, -largest])


def test_a_running_mean_of_many_models_takes_the_memory_of_few():
    def peak(models):
        tracemalloc.start()
        mean = RunningMean()
        for number in range(models):
            mean.add({"w": np.full(100_000, number, np.float32)}, 1)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(200) < 1.05 * peak(3)


def test_running_figures_are_the_weighted_means_of_the_numbers_that_all_report():
    figures = RunningFigures()
    figures.add({"loss": 1.0, "accuracy": 1, "curve": [1.0], "first": 4.0}, 1)
    figures.add({"loss": 5.0, "accuracy": 0, "curve": [2.0], "second": 4.0}, 3)
    assert figures.means == {"loss": 4.0, "accuracy": 0.25}
    figures.add({"loss": 4.0, "accuracy": 0.25, "first": 4.0}, 6)
    assert figures.means == {"loss": 4.0, "accuracy": 0.25}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.999])
def test_a_moving_average_has_the_closed_form_of_its_decay(decay):
    moving = MovingAverage(decay)
    for number, model in enumerate(MODELS, start=1):
        moving.add({"v": model["v"]})
        shares = decay ** np.arange(number - 1, -1.0, -1)
        expected = np.average(np.stack([earlier["v"] for earlier in MODELS[:number]]), axis=0, weights=shares)
        np.testing.assert_allclose(moving.average["v"], expected, rtol=0, atol=2e-6)
        assert moving.average["v"].dtype == np.float32


def test_a_moving_average_continues_from_its_state_as_if_it_had_never_stopped():
    whole, first, second = MovingAverage(0.9), MovingAverage(0.9), MovingAverage(0.9)
    assert first.state == {}
    second.load_state(first.state)
    for model in MODELS[:3]:
        whole.add(model)
        first.add(model)
    second.load_state(first.state)
    for model in MODELS[3:]:
        whole.add(model)
        second.add(model)
    assert whole.state.keys() == {"v", "w", "count"}
    for name, array in whole.state.items():
        np.testing.assert_array_equal(second.state[name], array)
