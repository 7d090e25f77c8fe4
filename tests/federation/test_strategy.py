import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.serverapp import Grid

from fedlmd.federation.events import EventLog
from fedlmd.federation.grid import PollingGrid
from fedlmd.federation.messages import (
    Reply,
    pack_config,
    pack_reply,
    pack_request,
    pack_weights,
    unpack_request,
    unpack_weights,
)
from fedlmd.federation.plan import Plan, StrategyPlan
from fedlmd.federation.strategy import TooFewWorkers, TooManyFailedRounds, build_strategy

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
    return packed(node, Reply(f"site-{node}", {"num-examples": examples, **metrics}, weights))


def packed(node, answer):
    return pack_reply(pack_request("train", {}, pack_weights(EXPECTED), node), answer)


@pytest.fixture
def events(tmp_path):
    return EventLog(tmp_path)


def guard(events, **changes):
    strategy = build_strategy(Plan("r", 5, "x", **{"wait_seconds": 0.01, **changes}), EXPECTED, events)
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
        packed(3, Reply("site-3", error="out of memory")),
        Message(Error(code=3, reason="Node Unavailable"), reply_to=pack_request("train", {}, pack_weights({}), 4)),
        reply(5, [3, 3]),
    ]
    arrays, _ = strategy.aggregate_train(1, messages)
    np.testing.assert_array_equal(unpack_weights(arrays)["w"], [2, 2])
    assert strategy.refused_count == 4
    refused = {event["worker"]: event["reason"] for event in events.read()}
    assert refused == {
        "site-1": "'w' holds values that are not finite numbers",
        "site-2": "'w' has shape (3,), not (2,)",
        "site-3": "out of memory",
        "4": "Node Unavailable",
    }
    assert [entry["name"] for entry in strategy.record.workers] == ["site-0", "site-5"]
    assert strategy.record.aggregated


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
    }


def test_a_failure_of_flower_bears_the_name_that_the_worker_had_before(events):
    strategy = guard(events)
    strategy.aggregate_train(1, [reply(4, [0, 0])])
    lost = Message(Error(code=3, reason="gone"), reply_to=pack_request("train", {}, pack_weights({}), 4))
    strategy.aggregate_train(2, [lost, reply(5, [0, 0])])
    assert events.read()[-1]["worker"] == "site-4"


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


def test_a_strategy_that_goes_on_counts_the_rounds_from_where_it_was(events):
    strategy = guard(events)
    strategy.go_on(4, strategy.state)
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


def test_fedprox_sends_its_mu_and_averages_behind_the_same_guard(events):
    strategy = guard(events, strategy=StrategyPlan("fedprox", 0.25))
    messages = list(strategy.configure_train(1, pack_weights(EXPECTED), pack_config("train", {}), Nodes(2)))
    assert unpack_request(messages[0]).config["proximal-mu"] == 0.25
    arrays, _ = strategy.aggregate_train(1, [reply(0, [1, 1]), reply(1, [np.nan, 1])])
    np.testing.assert_array_equal(unpack_weights(arrays)["w"], [1, 1])


class Mailbox(Grid):
    """A grid whose node answers a message at the third look, and one message never."""

    def __init__(self):
        self.looks = 0

    def set_run(self, run): ...

    run = property(lambda self: None)

    def create_message(self, *args, **kwargs): ...

    def get_node_ids(self):
        return [1]

    def push_messages(self, messages):
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = str(number)
        return [str(number) for number in range(len(messages))]

    def pull_messages(self, message_ids):
        self.looks += 1
        if self.looks != 3:
            return []
        request = pack_request("train", {}, pack_weights({}), 1)
        request.metadata.__dict__["_message_id"] = "0"
        return [pack_reply(request, Reply("site-0"))]

    def send_and_receive(self, messages, *, timeout=None): ...


def test_replies_are_looked_for_often_and_until_the_timeout():
    grid = PollingGrid(Mailbox(), seconds=0.001)
    requests = [pack_request("train", {}, pack_weights({}), 1) for _ in range(2)]
    assert len(list(grid.send_and_receive(requests[:1]))) == 1
    grid = PollingGrid(Mailbox(), seconds=0.001)
    assert len(list(grid.send_and_receive(requests, timeout=0.1))) == 1
    assert list(grid.send_and_receive([])) == []
