import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from fedlmd.federation.actions import INSTALL, MOMENTS, TRAIN
from fedlmd.federation.compression import change, quantise
from fedlmd.federation.messages import (
    ACTION,
    Reply,
    check_reply,
    check_update,
    content_size,
    pack_config,
    pack_reply,
    pack_request,
    pack_weights,
    unpack_reply,
    unpack_request,
    unpack_weights,
    wire_size,
)
from fedlmd.models import build
from fedlmd.settings import Settings

WEIGHTS = {
    "classifier.w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "denoiser.b": np.array([0.5], dtype=np.float32),
}


def request(action=MOMENTS, **settings):
    return pack_request(action, settings, pack_weights(WEIGHTS), 7)


def update(**changes):
    return {**WEIGHTS, **{name.replace("_", "."): array for name, array in changes.items()}}


def test_a_request_survives_packing():
    got = unpack_request(request(INSTALL, run="r", settings={"labels": ["0", "ä"], "rate": 1e-3}))
    assert got.action == INSTALL
    assert got.config == {"run": "r", "settings": {"labels": ["0", "ä"], "rate": 1e-3}}
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(got.weights[name], array)
        assert got.weights[name].dtype == array.dtype


def test_what_flowers_strategies_add_to_the_config_reaches_the_worker():
    record = pack_config(TRAIN, {"run": "r"})
    record["server-round"], record["added"] = 3, 0.25
    content = RecordDict({"arrays": pack_weights(WEIGHTS), "config": record})
    assert unpack_request(Message(content, 7, "train")).config == {"run": "r", "round": 3, "added": 0.25}


def test_the_size_of_metrics_in_a_message_is_eight_bytes_for_each_number_and_little_more():
    sketch = {"count": 500, "values": [0.5] * 191}
    assert 192 * 8 <= wire_size({"verdict": sketch}) <= 192 * 8 + 150
    assert wire_size({"verdict": sketch, "lmd": sketch}) - wire_size({"verdict": sketch}) <= 192 * 8 + 100


def test_an_update_in_8_bits_is_3_9_times_smaller_for_the_networks_of_a_default_run():
    weights = build(Settings().networks).weights()
    update = quantise(change(weights, {name: array * 0.99 for name, array in weights.items()}))
    metrics = {"num-examples": 27000, "accuracy": 0.5, "evaluation-loss": 1.0, "classifier-loss": 1.0}
    whole, small = (pack_reply(request(), Reply("client1", metrics, arrays)).content for arrays in (weights, update))
    assert len(whole.array_records["arrays"]) == 1
    assert len(small.array_records["arrays"]) == 2
    assert content_size(whole) == pytest.approx(4 * sum(array.size for array in weights.values()), rel=0.002)
    assert content_size(whole) >= 3.9 * content_size(small)


def test_what_the_server_averaged_last_arrives_as_numbers_by_name():
    record = pack_config(TRAIN, {"run": "r"})
    record["averaged"] = '{"client ä": 3}'
    content = RecordDict({"arrays": pack_weights(WEIGHTS), "config": record})
    assert unpack_request(Message(content, 7, "train")).config == {"run": "r", "averaged": {"client ä": 3}}


def test_a_reply_survives_packing_with_inner_dicts_and_mixed_lists():
    metrics = {"num-examples": 3, "loss": 0.5, "lmd": {"mean": 1.5, "values": [0, 0.5, 1]}, "shape": (2, 3)}
    half = {"classifier.w": np.array([1.5, -2], dtype=np.float16)}
    got = unpack_reply(pack_reply(request(), Reply("worker-0", metrics, half)))
    assert got.metrics == {**metrics, "shape": [2, 3]}
    assert (got.worker, got.error) == ("worker-0", None)
    assert got.weights["classifier.w"].dtype == np.float16
    np.testing.assert_array_equal(got.weights["classifier.w"], half["classifier.w"])


def test_numpy_numbers_are_metrics_too():
    metrics = {"loss": np.float32(0.5), "values": np.array([1.0, 2.0])}
    got = unpack_reply(pack_reply(request(), Reply("worker-0", metrics)))
    assert got.metrics == {"loss": 0.5, "values": [1.0, 2.0]}


def test_a_workers_error_arrives_with_its_name():
    got = unpack_reply(pack_reply(request(), Reply("worker-0", error="no images of label 3")))
    assert (got.worker, got.error) == ("worker-0", "no images of label 3")


def test_a_failure_of_flower_arrives_as_an_error():
    got = unpack_reply(Message(Error(code=3, reason="Node Unavailable"), reply_to=request()))
    assert (got.worker, got.error) == ("7", "Node Unavailable")


@pytest.mark.parametrize(
    "content",
    [
        RecordDict({}),
        RecordDict({"arrays": ArrayRecord(), "metrics": MetricRecord()}),
        RecordDict({"arrays": ArrayRecord(), "metrics": MetricRecord(), "note": ConfigRecord({"other": 1})}),
        RecordDict({"arrays": MetricRecord(), "note": ConfigRecord({"worker": "worker-0"})}),
        RecordDict(
            {
                "arrays": ArrayRecord(),
                "metrics": MetricRecord({"a": 1, "a/b": 2}),
                "note": ConfigRecord({"worker": "worker-0"}),
            }
        ),
    ],
)
def test_a_reply_without_the_records_is_an_error_not_a_crash(content):
    assert unpack_reply(Message(content, reply_to=request())).error


def test_an_array_that_is_no_array_is_an_error_not_a_crash():
    broken = pack_reply(request(), Reply("worker-0", {}, WEIGHTS))
    [contents] = broken.content.array_records["arrays"]
    broken.content.array_records["arrays"][contents].data = b"\x93NUMPY but not really"
    assert "cannot be read" in unpack_reply(broken).error


def test_the_action_is_not_part_of_the_config():
    assert ACTION not in unpack_request(request()).config


def test_a_good_update_has_no_reason_to_be_refused():
    assert check_update(update(), WEIGHTS) is None
    half = {name: array.astype(np.float16) for name, array in WEIGHTS.items()}
    assert check_update(half, half) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"denoiser.b": WEIGHTS["denoiser.b"]}, "'classifier.w' is missing (1 of 2 arrays are)"),
        (update(extra=np.zeros(1, np.float32)), "'extra' is not an array of this model"),
        (update(classifier_w=np.zeros((3, 2), np.float32)), "'classifier.w' has shape (3, 2), not (2, 3)"),
        (update(classifier_w=np.zeros((2, 3))), "'classifier.w' has dtype float64, not float32"),
        (update(denoiser_b=np.array([np.nan], np.float32)), "'denoiser.b' holds values that are not finite numbers"),
        (update(denoiser_b=np.array([-np.inf], np.float32)), "'denoiser.b' holds values that are not finite numbers"),
    ],
)
def test_a_bad_update_is_refused_with_the_reason(bad, reason):
    assert check_update(bad, WEIGHTS) == reason


def test_whole_numbers_are_no_weights():
    integers = {"n": np.array([1])}
    assert "dtype int64" in check_update(integers, integers)


@pytest.mark.parametrize("count", [None, 0, -1, float("nan"), float("inf"), [3]])
def test_an_update_must_say_how_many_examples_it_stands_for(count):
    metrics = {} if count is None else {"num-examples": count}
    assert "'num-examples' must be a number above 0" in check_reply(Reply("a", metrics, WEIGHTS), WEIGHTS)


def test_an_error_is_the_reason_even_beside_good_weights():
    assert check_reply(Reply("a", {"num-examples": 1}, WEIGHTS, "out of memory"), WEIGHTS) == "out of memory"
    assert check_reply(Reply("a", {"num-examples": 1}, WEIGHTS), WEIGHTS) is None


def test_weights_travel_as_one_flat_array_for_each_dtype_and_average_as_such():
    record = pack_weights(WEIGHTS)
    assert len(record) == len({array.dtype for array in WEIGHTS.values()})
    doubled = {name: 2 * array for name, array in WEIGHTS.items()}
    assert list(pack_weights(doubled)) == list(record), "the same networks have the same keys"


@pytest.mark.parametrize(
    "contents", ['[["w", [3]]]', '[["w", [-1, -2]]]', '[["w", [2]], ["v", [1]]]', "w", "[[1]]", "{}"]
)
def test_a_table_of_contents_that_does_not_fit_is_refused(contents):
    with pytest.raises(ValueError, match="an array cannot be read"):
        unpack_weights(ArrayRecord({contents: Array(np.zeros(2, np.float32))}))
