"""Strategies by value: against Flower's own functions on all updates at once, and against closed forms."""

import numpy as np
import pytest
from flwr.app import RecordDict
from flwr.serverapp.strategy import FedAdam
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords, aggregate_metricrecords

from fedlmd.federation.checkpoints import load_checkpoint, save_checkpoint
from fedlmd.federation.events import EventLog
from fedlmd.federation.grid import PollingGrid
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
from fedlmd.federation.plan import Plan, StrategyPlan
from fedlmd.federation.strategies import build_strategy

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
    answer = Reply(f"site-{node}", {"num-examples": examples, **metrics}, update)
    return pack_reply(pack_request("train", {}, pack_weights({}), node), answer)


def strategy_of(events, start=START, min_replies=1, **of):
    """A strategy without a bound on norms, which would keep liars from it."""
    numbers = {"min_workers": min_replies, "min_replies": min_replies, "max_norm_ratio": 0.0}
    plan = Plan("r", 5, "x", StrategyPlan(**of), **numbers)
    return build_strategy(plan, start, events)


def round_of(strategy, number, start, updates, examples=IMAGES):
    """The global weights after a round that began with ``start``."""
    strategy.configure_train(number, pack_weights(start), pack_config("train", {}), Nodes(len(updates)))
    replies = (reply(node, update, examples[node]) for node, update in enumerate(updates))
    arrays, _ = strategy.aggregate_train(number, replies)
    return unpack_weights(arrays)


def assert_near(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], array, **{"rtol": 3e-7, "atol": 0, **tolerance}, err_msg=name)


def test_updates_added_one_by_one_make_flowers_own_average_of_all(events):
    figures = [{"num-examples": IMAGES[node], "loss": 0.1 * node, "lmd/mean": 1.0 + node} for node in range(7)]
    records = [
        RecordDict({"arrays": pack_weights(update), "metrics": pack_metrics(of)})
        for update, of in zip(UPDATES, figures, strict=True)
    ]
    expected = unpack_weights(aggregate_arrayrecords(records, "num-examples"))
    replies = [reply(node, UPDATES[node], IMAGES[node], loss=0.1 * node, lmd={"mean": 1.0 + node}) for node in range(7)]
    arrays, metrics = strategy_of(events).aggregate_train(1, iter(replies))
    assert_near(unpack_weights(arrays), expected, atol=1e-7)
    assert dict(metrics) == pytest.approx(dict(aggregate_metricrecords(records, "num-examples")), rel=1e-12)
    assert list(arrays) == list(pack_weights(START))


def test_where_all_sites_count_alike_their_images_do_not_weigh(events):
    found = round_of(strategy_of(events, weighting="uniform"), 1, START, UPDATES)
    assert_near(found, {name: np.mean([of[name] for of in UPDATES], axis=0, dtype=np.float64) for name in START})


def test_arrays_that_updates_do_not_have_stay_as_they_are(events):
    part = {name: array for name, array in START.items() if name.startswith("classifier.")}
    updates = [{name: update[name] for name in part} for update in UPDATES]
    for name, replies in {"fedavg": 1, "fedadam": 1, "krum": 7}.items():
        strategy = strategy_of(events, part, replies, name=name)
        found = round_of(strategy, 1, START, updates)
        np.testing.assert_array_equal(found["denoiser.weight"], START["denoiser.weight"])
        assert not np.array_equal(found["classifier.weight"], START["classifier.weight"])


def test_fedadam_makes_what_flowers_own_makes_of_all_updates_round_after_round(events):
    ours, flowers = strategy_of(events, name="fedadam", server_rate=0.03), FedAdam(eta=0.03, min_available_nodes=1)
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
    found = round_of(strategy_of(events, name="fedadam", server_rate=0.03), 1, START, UPDATES[:1])
    for name, array in START.items():
        change = UPDATES[0][name].astype(np.float64) - array
        rate = 0.03 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2)
        expected = array + rate * 0.1 * change / (np.sqrt(0.01 * change**2) + 1e-3)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("of", [{"name": "fedadam"}, {"server_ema": 0.8}, {"name": "fedadam", "server_ema": 0.8}])
def test_what_a_strategy_remembers_outlives_a_resume(events, tmp_path, of):
    whole, first, second = (strategy_of(events, **of) for _ in range(3))
    here = START
    for number in (1, 2, 3):
        here = round_of(whole, number, here, [trained(number, here), trained(number + 10, here)])
    there = START
    for number in (1, 2):
        there = round_of(first, number, there, [trained(number, there), trained(number + 10, there)])
    save_checkpoint(tmp_path, 2, there, first.state)
    start = load_checkpoint(tmp_path, {"round": 2}, START)
    second.go_on(start.round, start.state)
    # Flower counts from 1 again.
    there = round_of(second, 1, start.weights, [trained(3, there), trained(13, there)])
    assert_near(there, here, rtol=0)
    assert_near(second.released(there), whole.released(here), rtol=0)
    assert second.state.keys() == whole.state.keys() != set()
    assert second.averaged["site-0"] == 3


def test_the_release_gets_the_moving_average_and_the_rounds_go_on_from_the_last_weights(events):
    strategy, rounds, here = strategy_of(events, server_ema=0.75), [], START
    for number in range(1, 5):
        here = round_of(strategy, number, here, [trained(number, here, 1.0)])
        assert_near(here, trained(number, rounds[-1] if rounds else START, 1.0))
        rounds.append(here)
        if number == 2:
            assert strategy.aggregate_train(3, []) == (None, None)  # a round without updates is none
    released = strategy.released(here)
    for name in START:
        expected = np.average([of[name] for of in rounds], axis=0, weights=0.75 ** np.arange(3, -1.0, -1))
        np.testing.assert_allclose(released[name], expected, rtol=0, atol=1e-6)


def test_without_a_moving_average_the_release_is_the_last_round(events):
    strategy = strategy_of(events)
    here = round_of(strategy, 1, START, UPDATES)
    assert strategy.released(here) == here
    assert strategy.state.keys() == {"norms"}


LIE = {name: np.full_like(array, 3e38) for name, array in START.items()}


@pytest.mark.parametrize("count", [3, 4, 7])
def test_the_median_is_that_of_each_weight_whatever_workers_say_of_their_images(events, count):
    found = round_of(strategy_of(events, min_replies=3, name="median"), 1, START, UPDATES[:count])
    assert_near(found, {name: np.median([of[name] for of in UPDATES[:count]], axis=0) for name in START}, atol=1e-7)


@pytest.mark.parametrize(("trim", "count", "cut"), [(0.2, 5, 1), (0.2, 7, 1), (0.3, 7, 2), (0.4, 3, 1)])
def test_the_trimmed_mean_leaves_out_the_ends_of_each_weight(events, trim, count, cut):
    found = round_of(strategy_of(events, min_replies=count, name="trimmed-mean", trim=trim), 1, START, UPDATES[:count])
    expected = {}
    for name in START:
        ordered = np.sort([of[name] for of in UPDATES[:count]], axis=0)
        expected[name] = ordered[cut : count - cut].mean(axis=0, dtype=np.float64)
    assert_near(found, expected, atol=2e-7)


def krum(updates, liars):
    """Blanchard et al. 2017, section 4, as it is written there."""
    flat = np.array([np.concatenate([of[name].ravel() for name in START]) for of in updates], np.float64)
    with np.errstate(over="ignore"):
        distances = ((flat[:, None] - flat[None]) ** 2).sum(-1)
    others = [np.sort(np.delete(row, number))[: len(flat) - liars - 2] for number, row in enumerate(distances)]
    return updates[int(np.argmin([row.sum() for row in others]))]


@pytest.mark.parametrize(("count", "liars"), [(3, 0), (5, 1), (7, 2), (7, 0)])
def test_krum_takes_the_update_that_lies_closest_to_the_others(events, count, liars):
    strategy = strategy_of(events, min_replies=count, name="krum", byzantine=liars)
    assert_near(round_of(strategy, 1, START, UPDATES[:count]), krum(UPDATES[:count], liars), atol=1e-7)


def test_krum_tells_updates_apart_that_differ_by_far_less_than_the_weights_are_large(events):
    start = {name: array + np.float32(8) for name, array in START.items()}
    updates = [{name: start[name] + np.float32(size) for name in start} for size in (4e-5, 0, 1e-5, -6e-5, 7e-5)]
    found = round_of(strategy_of(events, min_replies=5, name="krum"), 1, start, updates)
    assert_near(found, krum(updates, 1), rtol=0)


@pytest.mark.parametrize("name", ["median", "trimmed-mean", "krum"])
def test_a_liars_update_moves_the_weights_no_further_than_honest_ones_differ(events, name):
    strategy = strategy_of(events, min_replies=5, name=name)
    found = round_of(strategy, 1, START, [LIE, *UPDATES[:4]])
    for key in START:
        honest = np.stack([of[key] for of in UPDATES[:4]])
        assert np.all(found[key] <= honest.max(axis=0) + 1e-6)
        assert np.all(found[key] >= honest.min(axis=0) - 1e-6)
    assert np.abs(round_of(strategy_of(events), 1, START, [LIE, *UPDATES[:4]])["classifier.norm"]).max() > 1e30


def test_strategies_that_hold_all_updates_say_so(events):
    strategy = strategy_of(events, min_replies=3, name="median")
    round_of(strategy, 1, START, UPDATES)
    assert events.read()[-1].items() >= {"event": "held", "round": 1, "updates": 7, "bytes": 7 * 39 * 4}.items()
    assert strategy.held == []
    assert [worker["name"] for worker in strategy.record.workers] == [f"site-{node}" for node in range(7)]


def test_too_few_updates_for_a_strategy_keep_the_weights(events):
    strategy = strategy_of(events, min_replies=5, name="krum")
    strategy.configure_train(1, pack_weights(START), pack_config("train", {}), Nodes(5))
    assert strategy.aggregate_train(1, [reply(node, UPDATES[node]) for node in range(4)]) == (None, None)
    assert events.read()[-1]["event"] == "kept"
