import numpy as np
import pytest

from fedlmd.calibration import LEVELS, Reference, Sketch
from fedlmd.federation.config import FederationConfig
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.federation.server.card import finish_release, most_common_form, sketches_by_worker
from fedlmd.release import LOGITS, VERDICT, half

SETTINGS = {"labels": ["0"], "calibration": {"alpha": 0.05}, "federation": {"rounds": 3, "strategy": "fedprox"}}


def sketch(count, low, high):
    """A sketch as a worker replies it, rising in a straight line."""
    return {"count": count, "values": [low + (high - low) * level for level in LEVELS]}


def test_workers_that_share_a_name_have_no_calibration_by_worker():
    a, b = ({"lmd": sketch(count, 0.0, 1.0)} for count in (1, 2))
    assert sketches_by_worker([Reply("a", a), Reply("b", b)]) == {"a": a, "b": b}
    assert sketches_by_worker([Reply("a", a), Reply("a", b)]) == {}


def test_the_most_common_form_is_that_of_most_workers_with_the_shapes_of_arrays():
    replies = [Reply("0", {"a": 1}), Reply("1", {"a": 1, "b": 2}), Reply("2", {"b": 1, "a": 2})]
    assert most_common_form(replies) == {("a", ()), ("b", ())}
    arrays = [Reply(str(size), weights={"s": np.zeros((size, 2), np.float32)}) for size in (3, 5, 5)]
    assert most_common_form(arrays) == {("s", (5, 2))}


def test_halved_weights_that_would_overflow_stay_whole():
    halved = half({"small": np.array([1.5, -2], np.float32), "large": np.array([1e6], np.float32)})
    assert halved["small"].dtype == np.float16
    assert halved["large"].dtype == np.float32
    np.testing.assert_array_equal(halved["small"], [1.5, -2])


def test_the_card_has_settings_calibration_metrics_and_training():
    plan = Plan("r", "x", SETTINGS)
    accuracy = {"count": 8, "mean": 0.75, "std": 0.43}
    moments = [Reply("w", {"a": {"count": 4, "mean": 1.0, "std": 0.5}, "accuracy": accuracy})]
    sketches = [Reply("w", {"a": sketch(4, 0.0, 3.0)})]
    last = {"metrics": {"accuracy": 0.9}, "workers": [{"name": "w", "metrics": {"accuracy": 0.9}}]}
    card = finish_release(plan, {"w": np.zeros((2, 3))}, last, {"moments": moments, "thresholds": sketches})
    assert card["settings"] == SETTINGS
    pooled = card["calibration"].pop("sketches")
    assert pooled["a"]["count"] == 4
    np.testing.assert_allclose(pooled["a"]["values"], sketch(4, 0.0, 3.0)["values"], atol=1e-9)
    assert card["calibration"] == {
        "alpha": 0.05,
        "moments": {"a": {"count": 4, "mean": 1.0, "std": 0.5}},
        "sites": {"w": {"a": sketch(4, 0.0, 3.0)}},
        "workers": ["w"],
    }
    assert card["metrics"] == {"accuracy": 0.75, "images": 8, "workers": {"w": {"accuracy": 0.75}}}
    assert card["training"] == {
        "how": "federated",
        "run": "r",
        "rounds": 3,
        "strategy": "fedprox",
        "workers": last["workers"],
        "parameters": 6,
    }
    assert card["training"]["rounds"] == FederationConfig(**SETTINGS["federation"]).rounds
    assert "self_test" not in card


@pytest.mark.parametrize("count", [3, 19, 20, 400])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.5])
def test_the_servers_threshold_is_the_one_of_predictions(count, alpha):
    """The images that the self-test calls unknown have a score above the threshold of the pooled sketch."""
    scores = np.random.default_rng(count).normal(size=count)
    values = {"count": count, "values": list(Sketch.of(scores).values)}
    replies = [Reply("w", {VERDICT: values}, {LOGITS: np.eye(3), VERDICT: np.sort(scores)[-3:] + 1e-3})]
    moments = [Reply("w", {VERDICT: {"count": count, "mean": 0.0, "std": 1.0}})]
    plan = Plan("r", "x", {"calibration": {"alpha": alpha}})
    card = finish_release(plan, {}, {}, {"moments": moments, "thresholds": replies})
    pooled = card["calibration"]["sketches"][VERDICT]
    threshold = Reference.of_sketch(Sketch.from_json(pooled)).threshold(alpha)
    assert card["self_test"]["unknown"] == (replies[0].weights[VERDICT] > threshold).tolist()


def test_the_card_gets_a_self_test_where_the_workers_gave_outputs():
    plan = Plan("r", "x", {"calibration": {"alpha": 0.05}})
    moments = [Reply("w", {VERDICT: {"count": 100, "mean": 1.0, "std": 0.5}})]
    outputs = {LOGITS: np.eye(3, dtype=np.float32), VERDICT: np.array([1.0, 9.0, 10.2], np.float32)}
    sketches = [Reply("w", {VERDICT: sketch(100, 0.0, 10.0)}, outputs)]
    card = finish_release(plan, {}, {}, {"moments": moments, "thresholds": sketches})
    # Of 100 scores from 0 to 10, one in twenty lies above 9.5.
    assert card["self_test"]["unknown"] == [False, False, True]
    assert card["self_test"]["findings"][LOGITS] == np.eye(3).tolist()
    without = finish_release(plan, {}, {}, {"moments": moments, "thresholds": [Reply("w", sketches[0].metrics)]})
    assert "self_test" not in without
