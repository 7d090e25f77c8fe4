import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from fedlmd.detection import LEVELS
from fedlmd.federation.merge import shared
from fedlmd.federation.messages import (
    MOMENTS,
    SUMS,
    THRESHOLDS,
    TRAIN,
    Reply,
    pack_config,
    pack_request,
    pack_weights,
    unpack_reply,
)
from fedlmd.federation.release import check_moments, check_sketches, pool_moments
from fedlmd.federation.simulated import client_app, learner_of
from fedlmd.learner import Learner
from fedlmd.networks import build
from fedlmd.settings import from_mapping, to_mapping
from fedlmd.site import Site

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


def asked(settings, node, action, weights, memory="/nonexistent", **config):
    """What a worker answers; each message may reach another process, whose memory is empty."""
    learner_of.cache_clear()
    told = {"run": "r", "settings": to_mapping(settings), "round": 1, **config}
    message = pack_request(action, told, pack_weights(weights), node.node_id)
    if action == TRAIN:
        message.metadata.message_type = "train"
        message.content["config"] = pack_config(action, told)
    app = client_app(json.dumps(to_mapping(settings)["data"]), Path(memory))
    return unpack_reply(app(message, node))


def test_a_simulated_worker_learns_what_a_real_one_with_the_same_share_learns(settings):
    weights = build(settings).weights()
    reply = asked(settings, node_of(3), TRAIN, weights)
    *_, expected = Learner(Site("worker-3", settings.data, 3)).train(settings, weights, 1)
    assert (reply.worker, reply.error) == ("worker-3", None)
    assert reply.metrics["num-examples"] == expected.metrics["num-examples"]
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(reply.weights[name], array)


def test_a_simulated_worker_remembers_its_scores_whatever_process_its_messages_reach(settings, tiny_result):
    node, weights = node_of(3), tiny_result.weights
    sums = asked(settings, node, SUMS, weights)
    assert sums.error is None
    assert sums.weights
    moments = asked(settings, node, MOMENTS, weights)
    assert check_moments(moments.metrics) is None
    pooled = pool_moments([moments.metrics])
    thresholds = asked(settings, node, THRESHOLDS, weights, moments=pooled)
    assert check_sketches(thresholds.metrics, LEVELS) is None
    learner = Learner(Site("worker-3", settings.data, 3))
    list(learner.moments(settings, weights))
    for name, sketch in learner.found.sketches(settings, pooled).items():
        assert thresholds.metrics[name]["values"] == pytest.approx(sketch["values"])
    for name, array in learner.found.proof(settings, pooled).items():
        np.testing.assert_allclose(thresholds.weights[name], array)


def test_a_simulated_worker_owes_what_its_updates_could_not_say_whatever_process_its_messages_reach(settings, tmp_path):
    federation = replace(settings.federation, compression="8-bit", merge="partial")
    settings = replace(settings, federation=federation)
    weights, learner = shared("partial", build(settings).weights()), Learner(Site("worker-3", settings.data, 3))
    learner.memory.open("r")
    for number in (1, 2):
        *_, expected = learner.train(settings, weights, number, number - 1)
        told = {"round": number, "averaged": {"worker-3": number - 1}}
        reply = asked(settings, node_of(3), TRAIN, weights, tmp_path, **told)
        assert reply.error is None
        for name, array in expected.weights.items():
            np.testing.assert_array_equal(reply.weights[name], array)


def test_what_a_simulated_worker_cannot_do_is_said_in_its_reply(settings, tiny_result):
    reply = asked(settings, node_of(3), THRESHOLDS, tiny_result.weights, moments={})
    assert reply == Reply("worker-3", error="this site has no scores to give thresholds of; ask for its moments first")
    assert "there is no worker 41" in asked(settings, node_of(41), SUMS, tiny_result.weights).error
