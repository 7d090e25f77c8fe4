import tracemalloc

import numpy as np
import pytest

from fedlmd.aggregation import MovingAverage, RunningFigures, RunningMean, least_replies

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
        of = np.stack([model[name].astype(np.float64) for model in MODELS])
        expected = np.average(of, axis=0, weights=IMAGES).astype(MODELS[0][name].dtype)
        np.testing.assert_array_equal(mean.mean()[name], expected)
        assert mean.mean()[name].dtype == expected.dtype


def test_the_order_of_the_models_changes_a_running_mean_by_rounding_at_most():
    forth, back = RunningMean(), RunningMean()
    for model, weight in zip(MODELS, IMAGES, strict=True):
        forth.add(model, weight)
    for model, weight in reversed(list(zip(MODELS, IMAGES, strict=True))):
        back.add(model, weight)
    np.testing.assert_allclose(forth.means["v"], back.means["v"], rtol=0, atol=1e-14)


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
        expected = np.average(np.stack([of["v"] for of in MODELS[:number]]), axis=0, weights=shares)
        np.testing.assert_allclose(moving.average["v"], expected, rtol=0, atol=2e-6)
        assert moving.average["v"].dtype == np.float32


def test_a_moving_average_goes_on_from_its_state_as_if_it_had_never_stopped():
    whole, first, second = MovingAverage(0.9), MovingAverage(0.9), MovingAverage(0.9)
    assert first.state == {}
    second.go_on(first.state)
    for model in MODELS[:3]:
        whole.add(model)
        first.add(model)
    second.go_on(first.state)
    for model in MODELS[3:]:
        whole.add(model)
        second.add(model)
    assert whole.state.keys() == {"v", "w", "count"}
    for name, array in whole.state.items():
        np.testing.assert_array_equal(second.state[name], array)


def test_the_fewest_updates_are_those_with_which_a_liar_can_be_left_out():
    assert [least_replies(name, 0.2, 1) for name in ("fedavg", "fedprox", "fedadam")] == [1, 1, 1]
    assert least_replies("median", 0.2, 1) == 3
    assert [least_replies("krum", 0.2, liars) for liars in (0, 1, 2)] == [3, 5, 7]
    for trim in (0.49, 0.34, 0.2, 0.1, 0.07, 1e-6):
        least = least_replies("trimmed-mean", trim, 1)
        assert (int(trim * least), int(trim * (least - 1))) == (1, 0)
