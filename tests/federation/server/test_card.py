import json
from dataclasses import replace

import numpy as np
import pytest

from fedlmd.calibration import EVALUATION, LEVELS, PromiseCheck, Reference, Sketch, check_scores, reference
from fedlmd.federation.config import FederationConfig
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.federation.server.card import finish_release, most_common_form, promise_event, sketches_by_worker
from fedlmd.release import LOGITS, VERDICT, half

SETTINGS = {"labels": ["0"], "calibration": {"alpha": 0.05}, "federation": {"rounds": 3, "strategy": "fedprox"}}


def sketch(count, low, high):
    """A sketch as a worker replies it, rising in a straight line."""
    return {"count": count, "values": [low + (high - low) * level for level in LEVELS]}


def test_workers_that_share_a_name_have_no_calibration_by_worker():
    a, b = ({"lmd": sketch(count, 0.0, 1.0)} for count in (1, 2))
    assert sketches_by_worker([Reply("a", a), Reply("b", b)]) == {"a": a, "b": b}
    assert sketches_by_worker([Reply("a", a), Reply("a", b)]) == {}


def thresholds_of(rng, shifts, calibrated=200, evaluated=100):
    """The replies of workers whose evaluation images score higher by a shift, and the exact scores of both."""
    replies, scores = [], []
    for worker, shift in enumerate(shifts):
        pair = rng.normal(size=calibrated), rng.normal(shift, 1, size=evaluated)
        sketches = {name: vars(Sketch.of(each)) for name, each in zip((VERDICT, EVALUATION), pair, strict=True)}
        replies.append(Reply(f"w{worker}", json.loads(json.dumps(sketches))))
        scores.append(pair)
    return replies, scores


def card_of(replies):
    moments = [Reply("w", {VERDICT: {"count": 100, "mean": 1.0, "std": 0.5}})]
    plan = Plan("r", "x", {"calibration": {"alpha": 0.05}})
    return finish_release(plan, {}, {}, {"moments": moments, "thresholds": replies})["calibration"]


def test_the_card_says_whether_the_promise_is_kept_together_and_at_each_worker():
    replies, scores = thresholds_of(np.random.default_rng(0), (0.0, 0.0, 1.5))
    calibration = card_of(replies)
    promise = calibration.pop("promise")
    workers = promise.pop("workers")
    parts = {str(n): Sketch.of(known) for n, (known, _) in enumerate(scores)}
    exact = check_scores(reference(parts, None), 0.05, np.concatenate([evaluated for _, evaluated in scores]))
    assert promise == pytest.approx(vars(exact), abs=0.02)
    assert not promise["kept"]
    assert {name: check["kept"] for name, check in workers.items()} == {"w0": True, "w1": True, "w2": False}
    own = check_scores(Reference.of_sketch(parts["0"]), 0.05, scores[0][1])
    assert PromiseCheck(**workers["w0"]) == own
    numbers, notes = promise_event({**promise, "workers": workers})
    json.dumps(numbers, allow_nan=False)
    assert numbers == promise
    assert notes == [PromiseCheck(**promise).sentence, f"w2: {PromiseCheck(**workers['w2']).sentence}"]


def test_the_event_of_many_workers_with_a_broken_promise_names_some():
    replies, _ = thresholds_of(np.random.default_rng(4), [2.0] * 15)
    _, notes = promise_event(card_of(replies)["promise"])
    assert len(notes) == 14
    assert notes[-1] == "and at 3 more workers"


def test_a_sketch_of_evaluation_images_changes_nothing_else_in_the_card():
    replies, _ = thresholds_of(np.random.default_rng(1), (0.0, 0.5))
    calibration = card_of(replies)
    without = [Reply(reply.worker, {VERDICT: reply.metrics[VERDICT]}) for reply in replies]
    assert calibration.pop("promise")["images"] == 200
    assert calibration == card_of(without)
    assert calibration["sites"]["w0"] == {VERDICT: replies[0].metrics[VERDICT]}


def test_the_promise_is_checked_with_the_workers_that_sent_a_sketch_of_evaluation_images():
    replies, _ = thresholds_of(np.random.default_rng(2), (0.0, 0.0))
    del replies[0].metrics[EVALUATION]
    promise = card_of(replies)["promise"]
    assert (promise["images"], list(promise["workers"])) == (100, ["w1"])


def test_workers_that_share_a_name_have_their_promise_checked_together_only():
    replies, _ = thresholds_of(np.random.default_rng(3), (0.0, 0.0))
    promise = card_of([replace(reply, worker="w") for reply in replies])["promise"]
    assert (promise["images"], promise["workers"], promise["kept"]) == (200, {}, True)


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
