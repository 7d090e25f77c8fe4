"""Merges of the workers' denoisers: what is shared, which denoisers are refused, and the merged weights."""

import numpy as np
import pytest

from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.federation.server.merge import check_denoiser, merged, shared
from fedlmd.models import UNet

WEIGHTS = {
    "classifier.head.weight": np.ones((2, 2), np.float32),
    "denoiser.stem.weight": np.full((3,), 2, np.float32),
    "denoiser.up.0.weight": np.full((2,), 3, np.float32),
    "denoiser.head.bias": np.full((1,), 4, np.float32),
}
DENOISER = {name: array for name, array in WEIGHTS.items() if name.startswith("denoiser.")}


def reply(name="a", factor=1.0, labels=(3, 1), **changes):
    figures = {"num-examples": sum(labels), "labels": list(labels), "means": [0.5, 1.5], "stds": [0.1, 0.2]}
    weights = {name: (array * factor).astype(np.float32) for name, array in DENOISER.items()}
    return Reply(name, {**figures, **changes.get("metrics", {})}, {**weights, **changes.get("weights", {})})


@pytest.mark.parametrize(
    ("merge", "names"),
    [
        ("rounds", set(WEIGHTS)),
        ("partial", {"classifier.head.weight", "denoiser.stem.weight"}),
        ("average", {"classifier.head.weight"}),
        ("mixture", {"classifier.head.weight"}),
        ("union", {"classifier.head.weight"}),
    ],
)
def test_the_rounds_exchange_what_the_merge_averages_in_them(merge, names):
    plan = Plan("r", "x", {"federation": {"merge": merge}}, UNet.local_layers)
    assert shared(plan, WEIGHTS).keys() == names


def test_an_average_is_weighted_by_the_number_of_images():
    weights = merged("average", [reply(factor=1.0, labels=(3, 0)), reply(factor=5.0, labels=(0, 1))])
    assert weights.keys() == DENOISER.keys()
    for name, array in weights.items():
        np.testing.assert_allclose(array, 2 * DENOISER[name])
        assert array.dtype == np.float32


@pytest.mark.parametrize("merge", ["partial", "mixture", "union"])
def test_the_others_keep_every_workers_denoiser_and_its_figures(merge):
    weights = merged(merge, [reply(factor=1.0, labels=(3, 0)), reply(factor=5.0, labels=(1, 0))])
    for number, factor in enumerate((1.0, 5.0)):
        for name, array in DENOISER.items():
            inner = name.removeprefix("denoiser.")
            np.testing.assert_array_equal(weights.pop(f"denoiser.members.{number}.{inner}"), factor * array)
    np.testing.assert_array_equal(weights.pop("denoiser.shares"), np.array([[0.75, 0], [0.25, 0]], np.float32))
    np.testing.assert_array_equal(weights.pop("denoiser.means"), np.array([[0.5, 1.5]] * 2, np.float32))
    np.testing.assert_array_equal(weights.pop("denoiser.stds"), np.array([[0.1, 0.2]] * 2, np.float32))
    assert weights == {}


def test_a_good_denoiser_is_not_refused():
    assert check_denoiser(reply(), WEIGHTS, 2) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": {"denoiser.stem.weight": np.full((3,), np.nan, np.float32)}}, "not finite"),
        ({"weights": {"denoiser.stem.weight": np.ones((4,), np.float32)}}, "has shape"),
        ({"weights": {"classifier.head.weight": np.ones((2, 2), np.float32)}}, "is not an array of this model"),
        ({"metrics": {"labels": None}}, "'labels' must be a list of finite numbers"),
        ({"metrics": {"means": [float("inf"), 1.0]}}, "'means' must be a list of finite numbers"),
        ({"metrics": {"labels": [1, 2, 3]}}, "'labels' must hold 2 numbers of images"),
        ({"metrics": {"labels": [0, 0]}}, "'labels' must hold 2 numbers of images"),
        ({"metrics": {"labels": [2, -1]}}, "'labels' must hold 2 numbers of images"),
        ({"metrics": {"stds": [0.1]}}, "must be of the same scores"),
        ({"metrics": {"stds": [0.1, -0.1]}}, "no std below 0"),
    ],
)
def test_a_broken_denoiser_is_refused_with_the_reason(changes, words):
    assert words in check_denoiser(reply(**changes), WEIGHTS, 2)
