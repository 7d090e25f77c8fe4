import weakref

import numpy as np
import pytest
from flwr.app import Error, Message

from fedlmd.federation.compression import SCALES, change, compress, quantise
from fedlmd.federation.config import FederationConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import (
    Reply,
    content_size,
    pack_config,
    pack_reply,
    pack_request,
    pack_weights,
    unpack_request,
    unpack_weights,
)
from fedlmd.federation.server import guard as guard_module
from fedlmd.federation.server import updates as updates_module
from fedlmd.federation.server.grid import PollingGrid
from fedlmd.federation.server.guard import Guard, TooFewWorkers, TooManyFailedRounds
from fedlmd.federation.server.norms import FIRST
from fedlmd.federation.server.strategies import build_strategy

EXPECTED = {"w": np.zeros(2, np.float32)}


class Nodes(PollingGrid):
    """A grid of so many nodes; each look at them takes the next number, and the last one stays."""

    def __init__(self, *counts):
        self.counts = list(counts)

    def get_node_ids(self):
        count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
        return range(count)


def reply(node, values, examples=1, **metrics):
    weights = {"w": np.array(values, np.float32)}
    return packed(node, Reply(f"worker-{node}", {"num-examples": examples, **metrics}, weights))


def packed(node, content):
    return pack_reply(pack_request("train", {}, pack_weights(EXPECTED), node), content)


@pytest.fixture
def events(tmp_path):
    return EventLog(tmp_path)


def guard(events, **changes):
    strategy = build_strategy(FederationConfig(**{"wait_seconds": 0.01, **changes}), EXPECTED, events)
    strategy.sleep = lambda seconds: None
    return strategy


def test_good_updates_are_averaged_by_their_number_of_examples(events):
    arrays, metrics = guard(events).aggregate_train(1, [reply(0, [0, 4], 1, loss=1.0), reply(1, [4, 0], 3, loss=5.0)])
    np.testing.assert_array_equal(unpack_weights(arrays)["w"], np.array([3, 1], np.float32))
    assert unpack_weights(arrays)["w"].dtype == np.float32
    assert metrics["loss"] == 4.0


def test_a_bad_update_is_refused_and_the_others_are_averaged(events):
    strategy = guard(events)
    messages = [
        reply(0, [1, 1]),
        reply(1, [np.nan, 1]),
        reply(2, [1, 1, 1]),
        packed(3, Reply("worker-3", error="out of memory")),
        Message(Error(code=3, reason="Node Unavailable"), reply_to=pack_request("train", {}, pack_weights({}), 4)),
        reply(5, [3, 3]),
    ]
    arrays, _ = strategy.aggregate_train(1, messages)
    np.testing.assert_array_equal(unpack_weights(arrays)["w"], [2, 2])
    assert strategy.refused_count == 4
    refused = {event["worker"]: event["reason"] for event in events.read()}
    assert refused == {
        "worker-1": "'w' holds values that are not finite numbers",
        "worker-2": "'w' has shape (3,), not (2,)",
        "worker-3": "out of memory",
        "4": "Node Unavailable",
    }
    assert [entry["name"] for entry in strategy.record.workers] == ["worker-0", "worker-5"]
    assert strategy.record.aggregated


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_an_update_that_is_a_hundred_times_too_large_is_refused_whenever_it_comes(events, order):
    strategy = guard(events)
    updates = [reply(0, [3, 4]), reply(1, [5, 0]), reply(2, [300, 400])]
    arrays, _ = strategy.aggregate_train(1, [updates[node] for node in order])
    np.testing.assert_array_equal(unpack_weights(arrays)["w"], [4, 2])
    reason = "it changes the weights by 500, more than 10 times as much as updates do (5, median of 3);"
    assert strategy.record.refused == [{"name": "worker-2", "reason": f"{reason} max_norm_ratio sets this bound"}]
    # A process that resumes the run knows the usual norms, so that the first reply can already be refused.
    later = guard(events, min_replies=1)
    later.load_state(1, strategy.state)
    assert later.state["norms"].tolist() == [5.0, 5.0]
    list(later.configure_train(1, arrays, pack_config("train", {}), Nodes(2)))
    # 500 from what was sent: 304 is 300 away from 4.
    arrays, _ = later.aggregate_train(1, [reply(0, [304, 402]), reply(1, [7, 6])])
    np.testing.assert_array_equal(unpack_weights(arrays)["w"], [7, 6])


def test_each_workers_own_metrics_are_kept_and_only_shared_numbers_averaged(events):
    strategy = guard(events)
    first = reply(0, [0, 0], accuracy=0.5, only={"a": 1}, curve=[1.0, 2.0])
    _, metrics = strategy.aggregate_train(1, [first, reply(1, [0, 0], accuracy=1.0, curve=[1.0])])
    assert dict(metrics) == {"accuracy": 0.75}
    assert strategy.record.workers[0]["metrics"] == {
        "num-examples": 1,
        "accuracy": 0.5,
        "only": {"a": 1},
        "curve": [1.0, 2.0],
        "bytes-down": 0,
        "bytes-up": content_size(reply(0, [0, 0], accuracy=0.5, only={"a": 1}, curve=[1.0, 2.0]).content),
    }


def test_the_seconds_of_a_round_are_loading_training_transfer_and_waiting(events):
    strategy, nodes = guard(events), Nodes(4)
    nodes.reply_seconds = {0: 5.0, 1: 5.0, 3: 8.5}
    list(strategy.configure_train(1, pack_weights(EXPECTED), pack_config("train", {}), nodes))
    strategy.record.began -= 9
    trained = {"seconds-training": 3.5}
    loaded = {**trained, "seconds-loading": 1.25}
    replies = [reply(0, [0, 0], **trained), reply(1, [0, 0]), reply(2, [0, 0], **trained), reply(3, [0, 0], **loaded)]
    strategy.aggregate_train(1, replies)
    metrics = [worker["metrics"] for worker in strategy.record.workers]
    seconds = [{key: value for key, value in figures.items() if "seconds" in key} for figures in metrics]
    waited = [figures.pop("seconds-waiting", None) for figures in seconds]
    assert waited == [pytest.approx(4, abs=0.5), pytest.approx(4, abs=0.5), None, pytest.approx(0.5, abs=0.5)]
    assert seconds == [
        {**trained, "seconds-reply": 5.0, "seconds-transfer": 1.5},
        {"seconds-reply": 5.0},
        trained,
        {**loaded, "seconds-reply": 8.5, "seconds-transfer": 3.75},
    ]


def test_an_error_message_of_flower_gets_the_name_that_the_worker_had_before(events):
    strategy = guard(events)
    strategy.aggregate_train(1, [reply(4, [0, 0])])
    lost = Message(Error(code=3, reason="gone"), reply_to=pack_request("train", {}, pack_weights({}), 4))
    strategy.aggregate_train(2, [lost, reply(5, [0, 0])])
    assert events.read()[-1]["worker"] == "worker-4"


def test_an_error_message_of_flowers_server_is_that_of_the_worker_that_was_asked(events):
    strategy = guard(events)
    strategy.aggregate_train(1, [reply(1, [0, 0])])
    messages = list(strategy.configure_train(2, pack_weights(EXPECTED), pack_config("train", {}), Nodes(3)))
    lost = []
    for message in messages:
        message.metadata.__dict__["_message_id"] = f"asked {message.metadata.dst_node_id}"  # as sending it does
        error = Message(Error(code=3, reason="Node Unavailable"), reply_to=message)
        error.metadata.__dict__["_src_node_id"] = 1  # Flower's server
        lost.append(error)
    strategy.aggregate_train(2, lost)
    names = {
        message.metadata.dst_node_id: entry["name"]
        for message, entry in zip(messages, strategy.record.refused, strict=True)
    }
    assert names == {0: "0", 1: "worker-1", 2: "2"}


def test_too_few_good_updates_keep_the_weights(events):
    strategy = guard(events, min_workers=2, min_replies=2)
    assert strategy.aggregate_train(1, [reply(0, [1, 1]), reply(1, [np.inf, 1])]) == (None, None)
    kept = events.read()[-1]
    assert (kept["event"], kept["good"], kept["needed"]) == ("kept", 1, 2)
    assert not strategy.record.aggregated


def test_failed_rounds_in_a_row_end_the_run_and_a_good_one_between_does_not_count(events):
    strategy = guard(events, max_failed_rounds=2)
    strategy.aggregate_train(1, [])
    strategy.aggregate_train(2, [reply(0, [1, 1])])
    strategy.aggregate_train(3, [])
    with pytest.raises(TooManyFailedRounds, match=r"2 rounds in a row .*no other reply came in time"):
        strategy.aggregate_train(4, [])


def test_a_round_waits_for_enough_workers(events):
    config = pack_config("train", {"run": "r"})
    messages = list(guard(events, wait_seconds=60).configure_train(3, pack_weights(EXPECTED), config, Nodes(0, 1, 3)))
    assert sorted(message.metadata.dst_node_id for message in messages) == [0, 1, 2]
    assert unpack_request(messages[0]).config == {"run": "r", "round": 3}
    assert [event["connected"] for event in events.read()] == [0, 1]


def test_a_resumed_strategy_counts_the_rounds_from_where_it_was(events):
    strategy = guard(events)
    strategy.load_state(4, strategy.state)
    messages = list(strategy.configure_train(1, pack_weights(EXPECTED), pack_config("train", {}), Nodes(0, 2)))
    assert {unpack_request(message).config["round"] for message in messages} == {5}
    assert (strategy.record.number, events.read()[0]["round"]) == (5, 5)


def test_too_few_workers_end_the_run_with_the_numbers(events):
    config = pack_config("train", {})
    with pytest.raises(TooFewWorkers, match=r"round 1 needs 2 workers and 1 were connected after 0\.01 seconds"):
        guard(events).configure_train(1, pack_weights(EXPECTED), config, Nodes(1))


def test_a_worker_that_leaves_during_the_sampling_does_not_stall_the_round(events):
    messages = guard(events).configure_train(1, pack_weights(EXPECTED), pack_config("train", {}), Nodes(3, 2, 0))
    assert len(list(messages)) == 3


def test_fedprox_is_fedavg_at_the_server_which_does_not_send_mu(events):
    """The proximal term is a setting of the workers."""
    results = {}
    for name in ("fedavg", "fedprox"):
        strategy = guard(events, strategy=name, mu=0.25)
        assert type(strategy) is Guard
        messages = list(strategy.configure_train(1, pack_weights(EXPECTED), pack_config("train", {}), Nodes(3)))
        assert unpack_request(messages[0]).config == {"round": 1}
        updates = [reply(0, [1, 1], 2), reply(1, [np.nan, 1]), reply(2, [4, 0], 1)]
        results[name] = unpack_weights(strategy.aggregate_train(1, updates)[0])["w"]
    np.testing.assert_array_equal(results["fedavg"], results["fedprox"])
    np.testing.assert_allclose(results["fedprox"], [2, 2 / 3], rtol=1e-6)


def counting(function, calls):
    """The function, which then notes each call."""

    def counted(*arguments):
        calls.append(function.__name__)
        return function(*arguments)

    return counted


@pytest.mark.parametrize("compression", ["none", "8-bit", "4-bit"])
def test_each_reply_is_unpacked_and_restored_once(events, monkeypatch, compression):
    calls = []
    for module, name in ((guard_module, "unpack_reply"), (updates_module, "restore")):
        monkeypatch.setattr(module, name, counting(getattr(module, name), calls))
    strategy = guard(events, compression=compression)
    list(strategy.configure_train(1, pack_weights(EXPECTED), pack_config("train", {}), Nodes(12)))
    bits, messages = {"none": 0, "8-bit": 8, "4-bit": 4}[compression], []
    for node in range(12):
        weights = {"w": np.array([10 + node, 1], np.float32)}
        update = compress(weights, {}, bits)[0] if bits else weights
        messages.append(packed(node, Reply(f"worker-{node}", {"num-examples": 1}, update)))
    arrays, _ = strategy.aggregate_train(1, messages)
    np.testing.assert_allclose(unpack_weights(arrays)["w"], [15.5, 1], atol=1.5)
    assert calls.count("unpack_reply") == 12
    assert calls.count("restore") == (12 if bits else 0)


def test_no_update_of_a_round_is_kept_once_it_was_added(events):
    strategy, references, living = guard(events), [], []
    unpack = strategy.unpack

    def counted(message):
        update = unpack(message)
        references.append(weakref.ref(update))
        return update

    strategy.unpack = counted
    add = strategy.add
    strategy.add = lambda update: (living.append(sum(each() is not None for each in references)), add(update))
    strategy.aggregate_train(1, (reply(node, [1, node]) for node in range(40)))
    # The first ones of a run wait for each other, and are dropped one by one.
    assert living == [*range(FIRST, 0, -1), *[1] * (40 - FIRST)]


GLOBAL = {"v": np.linspace(-2, 2, 600, dtype=np.float32), "w": np.array([[0.5, -0.5]], np.float32)}


def compressing(events, plain=GLOBAL, number=1, **changes):
    """A strategy whose workers send changes in 8 bits, after it sent its weights; and what the first was sent."""
    config = FederationConfig(wait_seconds=0.01, compression="8-bit", **changes)
    strategy = build_strategy(config, plain, events)
    return strategy, sent(strategy, number, plain)


def sent(strategy, number, weights):
    messages = strategy.configure_train(number, pack_weights(weights), pack_config("train", {}), Nodes(2))
    return unpack_request(next(iter(messages)))


def changed(node, update, name=None, examples=1):
    return packed(node, Reply(name or f"worker-{node}", {"num-examples": examples}, update))


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_changes_in_8_bits_are_averaged_as_the_weights_would_be(events, name):
    strategy, request = compressing(events, strategy=name)
    assert request.config["averaged"] == {}
    generator = np.random.default_rng(0)
    trained = [
        {key: array + generator.normal(size=array.shape).astype(np.float32) for key, array in GLOBAL.items()}
        for _ in range(2)
    ]
    updates = [quantise(change(weights, GLOBAL)) for weights in trained]
    arrays, _ = strategy.aggregate_train(1, [changed(0, updates[0], examples=1), changed(1, updates[1], examples=3)])
    averaged = unpack_weights(arrays)
    assert list(arrays) == list(pack_weights(GLOBAL))
    for key in GLOBAL:
        expected = trained[0][key] * 0.25 + trained[1][key] * 0.75
        assert averaged[key].dtype == np.float32
        assert 0 < np.abs(averaged[key] - expected).max() <= 0.5 * max(update[SCALES].max() for update in updates)


def test_after_many_rounds_the_global_weights_are_those_of_whole_updates_within_one_scale(events):
    """Changes below a scale add up: each round moves a value by a tenth of what its byte can express."""
    steps = {"v": np.full(600, 0.05, np.float32), "w": np.array([[1.0, 0.0]], np.float32)}
    steps["v"][0] = 127.0
    residual, without, weights = {}, [], GLOBAL
    strategy = build_strategy(FederationConfig(wait_seconds=0.01, compression="8-bit"), GLOBAL, events)
    for number in range(1, 41):
        last = sent(strategy, number, weights).config["averaged"].get("worker-0", 0)
        assert last == number - 1
        update, residual = compress(steps, residual)
        weights = unpack_weights(strategy.aggregate_train(number, [changed(0, update)])[0])
        without.append(quantise(steps)["v"][1:256])
    assert np.abs(weights["v"][1:256] - GLOBAL["v"][1:256] - 40 * 0.05).max() <= 0.5 * 1.001
    assert not np.any(without), "without error feedback these values would never have moved"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (GLOBAL, "'scales' is missing; this run takes changes of weights in few bits, with their scales"),
        ({SCALES: np.zeros(0, np.float32)}, "'v' is missing (2 of 2 arrays are)"),
        (quantise({"v": GLOBAL["v"], "x": GLOBAL["w"]}), "'w' is missing (1 of 2 arrays are)"),
        (quantise({**GLOBAL, "x": GLOBAL["w"]}), "'x' is not an array of this model"),
        (quantise({**GLOBAL, "w": GLOBAL["w"].T}), "'w' has shape (2, 1), not (1, 2)"),
        ({**quantise(GLOBAL), "w": GLOBAL["w"]}, "'w' has dtype float32, not int8"),
        (
            {**quantise(GLOBAL), SCALES: np.ones(3, np.float32)},
            "'scales' has dtype float32 and shape (3,), not float32 and (4,)",
        ),
        (
            quantise({**GLOBAL, "w": np.array([[np.nan, 1]], np.float32)}),
            "'scales' holds values that are not finite numbers of 0 or above",
        ),
        (
            {**quantise(GLOBAL), SCALES: np.full(4, 3e38, np.float32)},
            "'v' holds values that are not finite numbers",
        ),
    ],
)
def test_a_broken_change_is_refused_and_the_other_is_averaged(events, bad, reason):
    strategy, _ = compressing(events)
    zero = quantise({name: np.zeros_like(array) for name, array in GLOBAL.items()})
    arrays, _ = strategy.aggregate_train(1, [changed(0, bad), changed(1, zero)])
    assert strategy.record.refused == [{"name": "worker-0", "reason": reason}]
    assert all(np.array_equal(array, GLOBAL[name]) for name, array in unpack_weights(arrays).items())
    assert sent(strategy, 2, GLOBAL).config["averaged"] == {"worker-1": 1}


def test_a_change_in_8_bits_is_refused_where_whole_weights_are_expected(events):
    strategy = build_strategy(FederationConfig(), GLOBAL, events)
    assert strategy.aggregate_train(1, [changed(0, quantise(GLOBAL))]) == (None, None)
    assert strategy.record.refused[0]["reason"] == "'scales' is not an array of this model"


def test_workers_learn_in_which_round_their_update_was_averaged_last(events):
    strategy, _ = compressing(events, min_replies=2)
    zero = quantise({name: np.zeros_like(array) for name, array in GLOBAL.items()})
    strategy.aggregate_train(1, [changed(0, zero), changed(1, zero)])
    assert sent(strategy, 2, GLOBAL).config["averaged"] == {"worker-0": 1, "worker-1": 1}
    strategy.aggregate_train(2, [changed(0, zero)])  # one is too few: the round keeps the weights
    assert sent(strategy, 3, GLOBAL).config["averaged"] == {"worker-0": 1, "worker-1": 1}
    strategy.aggregate_train(3, [changed(0, zero), changed(2, zero)])
    assert sent(strategy, 4, GLOBAL).config["averaged"] == {"worker-0": 3, "worker-1": 1, "worker-2": 3}


def test_of_two_workers_with_one_name_neither_learns_that_its_update_was_averaged(events):
    strategy, _ = compressing(events)
    zero = quantise({name: np.zeros_like(array) for name, array in GLOBAL.items()})
    strategy.aggregate_train(1, [changed(0, zero, "twin"), changed(1, zero, "twin"), changed(2, zero)])
    assert sent(strategy, 2, GLOBAL).config["averaged"] == {"worker-2": 1}


def test_a_round_says_how_many_bytes_each_worker_got_and_sent(events):
    strategy, _ = compressing(events)
    strategy.aggregate_train(1, [changed(0, quantise(GLOBAL))])
    figures = strategy.record.event()["workers"][0]["metrics"]
    assert 602 * 4 <= figures["bytes-down"] <= 602 * 4 + 700
    assert 602 + 4 * 4 <= figures["bytes-up"] <= 602 + 4 * 4 + 700
    assert "bytes-up" not in strategy.record.metrics
