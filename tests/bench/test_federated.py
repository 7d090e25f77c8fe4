"""Runs in one process: what sites remember between runs, how a liar lies, and errors that reach the caller."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from fedlmd.bench.federated import bytes_up, followed, remembering, reversing, trained
from fedlmd.bench.merges import share_of
from fedlmd.data import PartitionConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.local import LocalGrid
from fedlmd.federation.plan import Plan
from fedlmd.federation.server_app import Conductor
from fedlmd.progress import Progress, Result
from fedlmd.settings import DataConfig
from fedlmd.training import TrainingConfig


def config(merge="mixture", initial="common"):
    return {"settings": {"federation": {"merge": merge, "initial": initial}}}


class Counted:
    """A handler that adds one to all weights, and counts how often it was asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self, action, config, weights):
        self.asked += 1
        yield Progress(action, 1, 1)
        yield Result({"num-examples": self.asked}, {name: array + 1 for name, array in weights.items()})


def ask(handler, action, told):
    *_, result = handler(action, told, {"denoiser.w": np.zeros(2, np.float32)})
    return result


def test_a_sites_own_denoiser_is_trained_once_for_all_merges_that_start_alike(tmp_path):
    handler = Counted()
    first = ask(remembering(handler, tmp_path / "site"), "denoiser", config("average"))
    again = ask(remembering(handler, tmp_path / "site"), "denoiser", config("union"))
    assert handler.asked == 1
    assert again.metrics == first.metrics
    np.testing.assert_array_equal(again.weights["denoiser.w"], first.weights["denoiser.w"])
    ask(remembering(handler, tmp_path / "site"), "denoiser", config("average", "own"))
    ask(remembering(handler, tmp_path / "site"), "denoiser", config("partial"))
    ask(remembering(handler, tmp_path / "site"), "train", config())
    assert handler.asked == 4


def test_a_liar_sends_the_reverse_of_what_it_learnt():
    lying = ask(reversing(Counted(), 3.0), "train", config())
    np.testing.assert_array_equal(lying.weights["denoiser.w"], [-3, -3])
    np.testing.assert_array_equal(ask(reversing(Counted()), "sums", config()).weights["denoiser.w"], [1, 1])


def test_what_a_run_raises_reaches_who_waits_for_it(tmp_path):
    grid = LocalGrid({})
    conductor = Conductor(grid, Plan("broken", 1, str(tmp_path)), tmp_path, EventLog(tmp_path))

    def fail():
        raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        list(followed(fail, conductor, grid))


def test_who_stops_early_leaves_nobody_at_work_in_the_runs_folder(tiny_settings, tmp_path):
    data = DataConfig(partition=PartitionConfig("labels", 2, (("0", "1"), ("1", "2"))))
    settings = replace(tiny_settings, data=data, federation=replace(tiny_settings.federation, rounds=50))
    before = threading.active_count()
    steps = trained(settings, tmp_path / "run")
    assert next(steps).done < 50
    assert threading.active_count() == before + 1
    steps.close()
    assert threading.active_count() == before
    assert len([event for event in EventLog(tmp_path / "run").read() if event["event"] == "round"]) < 50
    assert not (tmp_path / "run" / "trained.safetensors").exists()


def test_rounds_are_trained_once_and_their_bytes_are_counted(tiny_settings, tmp_path):
    data = DataConfig(partition=PartitionConfig("labels", 2, (("0", "1"), ("1", "2"))))
    federation = replace(tiny_settings.federation, rounds=2, merge="average")
    settings = replace(tiny_settings, data=data, federation=federation)

    def finish():
        steps = trained(settings, tmp_path / "run", liars=1)
        while True:
            try:
                next(steps)
            except StopIteration as ended:
                return ended.value

    first = finish()
    assert all(name.startswith("classifier.") for name in first)
    size = sum(array.nbytes for array in first.values())
    assert 2 * size < bytes_up(tmp_path / "run") < 2.5 * size
    before = (tmp_path / "run" / "events.jsonl").read_bytes()
    second = finish()
    assert (tmp_path / "run" / "events.jsonl").read_bytes() == before
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_in_short_rounds_warming_up_and_averaging_take_a_quarter_at_most():
    base = TrainingConfig(warmup=20)
    long = share_of(base, 4000, 4, 0.98)
    assert (long.steps, long.warmup, long.ema) == (4000, 20, 0.98)
    short = share_of(base, 400, 20, 0.98)
    assert (short.warmup, short.ema) == (5, 0.8)
    assert share_of(base, 20, 20, 0.98).ema == 0
