"""Strategies by value: against Flower's own functions on all updates at once, and against closed forms."""

import numpy as np
import pytest
from flwr.app import RecordDict
from flwr.serverapp.strategy import FedAdam
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords, aggregate_metricrecords

from fedlmd.federation.config import FederationConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import (
    Reply,
    pack_config,
    pack_metrics,
    pack_reply,
    pack_request,
    pack_update,
    pack_weights,
    unpack_weights,
)
from fedlmd.federation.server.checkpoints import load_checkpoint, save_checkpoint
from fedlmd.federation.server.grid import PollingGrid
from fedlmd.federation.server.strategies import build_strategy

SHAPES = {"classifier.norm": (7,), "classifier.weight": (5, 4), "denoiser.weight": (3, 2, 2)}
IMAGES = (10, 2000, 33, 500, 64, 64, 7)


def weights(seed, scale=1.0):
    generator = np.random.default_rng(seed)
    return {name: generator.normal(0, scale, shape).astype(np.float32) for name, shape in SHAPES.items()}


START = weights(0)


def trained(seed, start=START, scale=0.01):
    return {name: array + weights(seed, scale)[name] for name, array in start.items()}


UPDATES = [trained(seed) for seed in range(1, 8)]


@pytest.fixture
def events(tmp_path):
    return EventLog(tmp_path)


class Nodes(PollingGrid):
    def __init__(self, count):
        self.count = count

    def get_node_ids(self):
        return range(self.count)


def reply(node, update, examples=1, **metrics):
    content = Reply(f"worker-{node}", {"num-examples": examples, **metrics}, update)
    return pack_reply(pack_request("train", {}, pack_weights({}), node), content)


def strategy_of(events, start=START, min_replies=1, **options):
    """A strategy without a bound on norms, which would refuse Byzantine updates before the strategy gets them."""
    numbers = {"min_workers": min_replies, "min_replies": min_replies, "max_norm_ratio": 0.0}
    return build_strategy(FederationConfig(**numbers, **options), start, events)


def round_of(strategy, number, start, updates, examples=IMAGES):
    """The global weights after a round that began with ``start``."""
    strategy.configure_train(number, pack_weights(start), pack_config("train", {}), Nodes(len(updates)))
    replies = (reply(node, update, examples[node]) for node, update in enumerate(updates))
    arrays, _ = strategy.aggregate_train(number, replies)
    return unpack_weights(arrays)


def assert_near(result, expected, **tolerance):
    assert result.keys() == expected.keys()
    for name, array in expected.items():
        assert result[name].dtype == np.float32
        np.testing.assert_allclose(result[name], array, **{"rtol": 3e-7, "atol": 0, **tolerance}, err_msg=name)


def test_updates_added_one_by_one_make_flowers_own_average_of_all(events):
    figures = [{"num-examples": IMAGES[node], "loss": 0.1 * node, "lmd/mean": 1.0 + node} for node in range(7)]
    records = [
        RecordDict({"arrays": pack_weights(update), "metrics": pack_metrics(metrics)})
        for update, metrics in zip(UPDATES, figures, strict=True)
    ]
    expected = unpack_weights(aggregate_arrayrecords(records, "num-examples"))
    replies = [reply(node, UPDATES[node], IMAGES[node], loss=0.1 * node, lmd={"mean": 1.0 + node}) for node in range(7)]
    arrays, metrics = strategy_of(events).aggregate_train(1, iter(replies))
    assert_near(unpack_weights(arrays), expected, atol=1e-7)
    assert dict(metrics) == pytest.approx(dict(aggregate_metricrecords(records, "num-examples")), rel=1e-12)
    assert list(arrays) == list(pack_weights(START))


def test_with_uniform_weighting_the_numbers_of_images_have_no_weight(events):
    result = round_of(strategy_of(events, weighting="uniform"), 1, START, UPDATES)
    assert_near(
        result, {name: np.mean([update[name] for update in UPDATES], axis=0, dtype=np.float64) for name in START}
    )


def test_arrays_that_updates_do_not_have_stay_as_they_are(events):
    part = {name: array for name, array in START.items() if name.startswith("classifier.")}
    updates = [{name: update[name] for name in part} for update in UPDATES]
    for name, replies in {"fedavg": 1, "fedadam": 1, "krum": 7}.items():
        strategy = strategy_of(events, part, replies, strategy=name)
        result = round_of(strategy, 1, START, updates)
        np.testing.assert_array_equal(result["denoiser.weight"], START["denoiser.weight"])
        assert not np.array_equal(result["classifier.weight"], START["classifier.weight"])


def test_fedadam_makes_what_flowers_own_makes_of_all_updates_round_after_round(events):
    ours, flowers = strategy_of(events, strategy="fedadam", server_rate=0.03), FedAdam(eta=0.03, min_available_nodes=1)
    here = there = START
    for number in (1, 2, 3):
        updates = [trained(seed + 10 * number, here) for seed in range(3)]
        flowers.configure_train(number, pack_weights(there), pack_config("train", {}), Nodes(3))
        theirs = [trained(seed + 10 * number, there) for seed in range(3)]
        replies = [pack_update(update, images) for update, images in zip(theirs, IMAGES, strict=False)]
        there = unpack_weights(flowers.aggregate_train(number, replies)[0])
        there = {name: array.astype(np.float32) for name, array in there.items()}
        here = round_of(ours, number, here, updates)
        assert_near(here, there, atol=3e-6)


def test_fedadams_first_step_is_the_papers_equation(events):
    """Reddi et al. 2021, algorithm 2, with Flower's correction of the start, which counts from 2."""
    result = round_of(strategy_of(events, strategy="fedadam", server_rate=0.03), 1, START, UPDATES[:1])
    for name, array in START.items():
        change = UPDATES[0][name].astype(np.float64) - array
        rate = 0.03 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)
        expected = array + rate * 0.1 * change / (np.sqrt(0.01 * change**2) + 1e-3)
        np.testing.assert_allclose(result[name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"strategy": "fedadam"}, {"server_ema": 0.8}, {"strategy": "fedadam", "server_ema": 0.8}]
)
def test_the_state_of_a_strategy_outlives_a_resume(events, tmp_path, options):
    whole, first, second = (strategy_of(events, **options) for _ in range(3))
    here = START
    for number in (1, 2, 3):
        here = round_of(whole, number, here, [trained(number, here), trained(number + 10, here)])
    there = START
    for number in (1, 2):
        there = round_of(first, number, there, [trained(number, there), trained(number + 10, there)])
    save_checkpoint(tmp_path, 2, there, first.state)
    start = load_checkpoint(tmp_path, {"round": 2}, START)
    second.load_state(start.round, start.state)
    # Flower counts from 1 again.
    there = round_of(second, 1, start.weights, [trained(3, there), trained(13, there)])
    assert_near(there, here, rtol=0)
    assert_near(second.released(there), whole.released(here), rtol=0)
    assert second.state.keys() == whole.state.keys() != set()
    assert second.averaged["worker-0"] == 3


def test_the_release_gets_the_moving_average_and_the_rounds_continue_from_the_last_weights(events):
    strategy, rounds, here = strategy_of(events, server_ema=0.75), [], START
    for number in range(1, 5):
        here = round_of(strategy, number, here, [trained(number, here, 1.0)])
        assert_near(here, trained(number, rounds[-1] if rounds else START, 1.0))
        rounds.append(here)
        if number == 2:
            assert strategy.aggregate_train(3, []) == (None, None)  # a round without updates is none
    released = strategy.released(here)
    for name in START:
        expected = np.average([after[name] for after in rounds], axis=0, weights=0.75 ** np.arange(3, -1.0, -1))
        np.testing.assert_allclose(released[name], expected, rtol=0, atol=1e-6)


def test_without_a_moving_average_the_release_is_the_last_round(events):
    strategy = strategy_of(events)
    here = round_of(strategy, 1, START, UPDATES)
    assert strategy.released(here) == here
    assert strategy.state.keys() == {"norms"}


BYZANTINE = {name: np.full_like(array, 3e38) for name, array in START.items()}


@pytest.mark.parametrize("count", [3, 4, 7])
def test_the_median_is_that_of_each_weight_whatever_number_of_images_workers_report(events, count):
    result = round_of(strategy_of(events, min_replies=3, strategy="median"), 1, START, UPDATES[:count])
    assert_near(
        result, {name: np.median([update[name] for update in UPDATES[:count]], axis=0) for name in START}, atol=1e-7
    )


@pytest.mark.parametrize(("trim", "count", "cut"), [(0.2, 5, 1), (0.2, 7, 1), (0.3, 7, 2), (0.4, 3, 1)])
def test_the_trimmed_mean_leaves_out_the_ends_of_each_weight(events, trim, count, cut):
    result = round_of(
        strategy_of(events, min_replies=count, strategy="trimmed-mean", trim=trim), 1, START, UPDATES[:count]
    )
    expected = {}
    for name in START:
        ordered = np.sort([update[name] for update in UPDATES[:count]], axis=0)
        expected[name] = ordered[cut : count - cut].mean(axis=0, dtype=np.float64)
    assert_near(result, expected, atol=2e-7)


def krum(updates, byzantine):
    """Blanchard et al. 2017, section 4, as it is written there."""
    flat = np.array([np.concatenate([update[name].ravel() for name in START]) for update in updates], np.float64)
    with np.errstate(over="ignore"):
        distances = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    others = [np.sort(np.delete(row, number))[: len(flat) - byzantine - 2] for number, row in enumerate(distances)]
    return updates[int(np.argmin([row.sum() for row in others]))]


@pytest.mark.parametrize(("count", "byzantine"), [(3, 0), (5, 1), (7, 2), (7, 0)])
def test_krum_takes_the_update_that_is_closest_to_the_others(events, count, byzantine):
    strategy = strategy_of(events, min_replies=count, strategy="krum", byzantine=byzantine)
    assert_near(round_of(strategy, 1, START, UPDATES[:count]), krum(UPDATES[:count], byzantine), atol=1e-7)


def test_krum_tells_updates_apart_that_differ_by_far_less_than_the_afterare_large(events):
    start = {name: array + np.float32(8) for name, array in START.items()}
    updates = [{name: start[name] + np.float32(size) for name in start} for size in (4e-5, 0, 1e-5, -6e-5, 7e-5)]
    result = round_of(strategy_of(events, min_replies=5, strategy="krum"), 1, start, updates)
    assert_near(result, krum(updates, 1), rtol=0)


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum"])
def test_a_byzantine_update_moves_the_afterno_further_than_honest_ones_differ(events, name):
    strategy = strategy_of(events, min_replies=5, strategy=name)
    result = round_of(strategy, 1, START, [BYZANTINE, *UPDATES[:4]])
    for key in START:
        honest = np.stack([update[key] for update in UPDATES[:4]])
        assert np.all(result[key] <= honest.max(axis=0) + 1e-6)
        assert np.all(result[key] >= honest.min(axis=0) - 1e-6)
    assert np.abs(round_of(strategy_of(events), 1, START, [BYZANTINE, *UPDATES[:4]])["classifier.norm"]).max() > 1e30


def test_strategies_that_hold_all_updates_say_so(events):
    strategy = strategy_of(events, min_replies=3, strategy="median")
    round_of(strategy, 1, START, UPDATES)
    assert events.read()[-1].items() >= {"event": "held", "round": 1, "updates": 7, "bytes": 7 * 39 * 4}.items()
    assert strategy.held == []
    assert [worker["name"] for worker in strategy.record.workers] == [f"worker-{node}" for node in range(7)]


def test_too_few_updates_for_a_strategy_keep_the_weights(events):
    strategy = strategy_of(events, min_replies=5, strategy="krum")
    strategy.configure_train(1, pack_weights(START), pack_config("train", {}), Nodes(5))
    assert strategy.aggregate_train(1, [reply(node, UPDATES[node]) for node in range(4)]) == (None, None)
    assert events.read()[-1]["event"] == "kept"
