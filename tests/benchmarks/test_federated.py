"""Runs in one process: stored denoisers, Byzantine workers, and errors that reach the caller."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.federated import bytes_up, followed, reversing, storing_denoiser, trained
from benchmarks.local_grid import LocalGrid
from benchmarks.merges import share_of
from fedlmd.data import DataConfig, PartitionConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import Plan
from fedlmd.federation.server.app import ServerRun
from fedlmd.progress import Progress, Result, drain
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
        return Result({"num-examples": self.asked}, {name: array + 1 for name, array in weights.items()})


def ask(handler, action, config):
    return drain(handler(action, config, {"denoiser.w": np.zeros(2, np.float32)}))


def test_a_workers_own_denoiser_is_trained_once_for_all_merges_that_start_alike(tmp_path):
    handler = Counted()
    first = ask(storing_denoiser(handler, tmp_path / "worker-0"), "denoiser", config("average"))
    again = ask(storing_denoiser(handler, tmp_path / "worker-0"), "denoiser", config("union"))
    assert handler.asked == 1
    assert again.metrics == first.metrics
    np.testing.assert_array_equal(again.weights["denoiser.w"], first.weights["denoiser.w"])
    ask(storing_denoiser(handler, tmp_path / "worker-0"), "denoiser", config("average", "own"))
    ask(storing_denoiser(handler, tmp_path / "worker-0"), "denoiser", config("partial"))
    ask(storing_denoiser(handler, tmp_path / "worker-0"), "train", config())
    assert handler.asked == 4


def test_a_byzantine_worker_sends_the_reverse_of_its_update():
    reverse = ask(reversing(Counted(), 3.0), "train", config())
    np.testing.assert_array_equal(reverse.weights["denoiser.w"], [-3, -3])
    np.testing.assert_array_equal(ask(reversing(Counted()), "sums", config()).weights["denoiser.w"], [1, 1])


def test_what_a_run_raises_reaches_who_waits_for_it(tmp_path):
    grid = LocalGrid({})
    server_run = ServerRun(grid, Plan("broken", str(tmp_path)), tmp_path, EventLog(tmp_path))

    def fail():
        raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        drain(followed(fail, server_run, grid))


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

    first = drain(trained(settings, tmp_path / "run", byzantine=1))
    assert all(name.startswith("classifier.") for name in first)
    size = sum(array.nbytes for array in first.values())
    assert 2 * size < bytes_up(tmp_path / "run") < 2.5 * size
    before = (tmp_path / "run" / "events.jsonl").read_bytes()
    second = drain(trained(settings, tmp_path / "run", byzantine=1))
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
