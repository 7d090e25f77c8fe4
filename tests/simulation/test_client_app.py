import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from fedlmd.calibration import LEVELS, pool_moments
from fedlmd.federation.actions import MOMENTS, SUMS, THRESHOLDS, TRAIN
from fedlmd.federation.messages import Reply, pack_config, pack_request, pack_weights, unpack_reply
from fedlmd.federation.server.checks import check_moments, check_sketches
from fedlmd.federation.server.merge import shared
from fedlmd.models import build
from fedlmd.progress import drain
from fedlmd.settings import from_mapping, plan_of, to_mapping
from fedlmd.simulation.client_app import client_app, worker_of
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker

WORKERS = 40


@pytest.fixture(scope="module")
def settings(tiny_settings):
    mapping = to_mapping(tiny_settings)
    mapping["data"]["partition"] = {"kind": "iid", "workers": WORKERS}
    mapping["classifier"]["steps"] = mapping["denoiser"]["steps"] = 2
    return from_mapping({**mapping, "calibration": {"images": 20, "described": 50}})


def node_of(number):
    config = {"partition-id": number, "num-partitions": WORKERS}
    return Context(run_id=1, node_id=number, node_config=config, state=RecordDict(), run_config={})


def reply_to(settings, node, action, weights, states="/nonexistent", **config):
    """A worker's reply; each message may reach another process, which has no worker cached."""
    worker_of.cache_clear()
    entries = {"run": "r", "settings": to_mapping(settings), "round": 1, **config}
    message = pack_request(action, entries, pack_weights(weights), node.node_id)
    if action == TRAIN:
        message.metadata.message_type = "train"
        message.content["config"] = pack_config(action, entries)
    app = client_app(json.dumps(to_mapping(settings)["data"]), Path(states))
    return unpack_reply(app(message, node))


def test_a_simulated_worker_trains_as_a_real_one_with_the_same_share_does(settings):
    weights = build(settings.networks).weights()
    reply = reply_to(settings, node_of(3), TRAIN, weights)
    expected = drain(Worker(WorkerConfig("worker-3", settings.data, 3)).train(settings, weights, 1))
    assert (reply.worker, reply.error) == ("worker-3", None)
    assert reply.metrics["num-examples"] == expected.metrics["num-examples"]
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(reply.weights[name], array)


def test_a_simulated_worker_keeps_its_scores_whatever_process_its_messages_reach(settings, tiny_result):
    node, weights = node_of(3), tiny_result.weights
    sums = reply_to(settings, node, SUMS, weights)
    assert sums.error is None
    assert sums.weights
    moments = reply_to(settings, node, MOMENTS, weights)
    assert check_moments(moments.metrics) is None
    pooled = pool_moments([moments.metrics])
    thresholds = reply_to(settings, node, THRESHOLDS, weights, moments=pooled)
    assert check_sketches(thresholds.metrics, LEVELS) is None
    worker = Worker(WorkerConfig("worker-3", settings.data, 3))
    drain(worker.moments(settings, weights))
    for name, sketch in worker.scores.sketches(settings, pooled).items():
        assert thresholds.metrics[name]["values"] == pytest.approx(sketch["values"])
    for name, array in worker.scores.self_test_scores(settings, pooled).items():
        np.testing.assert_allclose(thresholds.weights[name], array)


def test_a_simulated_worker_keeps_its_residual_and_local_layers_whatever_process_its_messages_reach(settings, tmp_path):
    federation = replace(settings.federation, compression="8-bit", merge="partial")
    settings = replace(settings, federation=federation)
    weights = shared(plan_of("r", settings, tmp_path), build(settings.networks).weights())
    worker = Worker(WorkerConfig("worker-3", settings.data, 3))
    worker.state.open("r")
    for number in (1, 2):
        expected = drain(worker.train(settings, weights, number, number - 1))
        config = {"round": number, "averaged": {"worker-3": number - 1}}
        reply = reply_to(settings, node_of(3), TRAIN, weights, tmp_path, **config)
        assert reply.error is None
        for name, array in expected.weights.items():
            np.testing.assert_array_equal(reply.weights[name], array)


def test_the_error_of_a_simulated_worker_is_in_its_reply(settings, tiny_result):
    reply = reply_to(settings, node_of(3), THRESHOLDS, tiny_result.weights, moments={})
    assert reply == Reply("worker-3", error="this worker has no scores to give thresholds of; query its moments first")
    assert "there is no worker 41" in reply_to(settings, node_of(41), SUMS, tiny_result.weights).error
