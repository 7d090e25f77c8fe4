import weakref

import numpy as np
import pytest

from fedlmd.calibration import LEVELS, added, gaussians, sums_by_class
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import Reply, pack_reply, unpack_request
from fedlmd.federation.plan import Plan
from fedlmd.federation.server.app import NothingToRelease, ServerRun
from fedlmd.federation.server.grid import PollingGrid
from fedlmd.release import LOGITS


class ReplyingGrid(PollingGrid):
    """A grid whose nodes reply in this process, one after the other; ``replies`` has each node's by the action."""

    def __init__(self, replies):
        self.by_node, self.living, self.most, self.requests = replies, [], 0, []

    def get_node_ids(self):
        return range(len(self.by_node))

    def send_and_receive(self, messages, *, timeout=None):
        for message in messages:
            node, request = message.metadata.dst_node_id, unpack_request(message)
            self.requests.append(request)
            metrics, weights = self.by_node[node][request.action]
            weights = {name: array.copy() for name, array in weights.items()}
            reply = pack_reply(message, Reply(f"worker-{node}", metrics, weights))
            del message
            self.living.append(weakref.ref(reply))
            self.most = max(self.most, sum(reference() is not None for reference in self.living))
            yield reply


def sums(seed, classes=2):
    generator = np.random.default_rng(seed)
    return sums_by_class(generator.normal(size=(20, 3)), generator.integers(0, classes, 20), classes)


def server_run(tmp_path, replies):
    return ServerRun(ReplyingGrid(replies), Plan("r", "x"), tmp_path, EventLog(tmp_path))


def of_sums(tmp_path, sums_by_node):
    return server_run(tmp_path, [{"sums": ({}, arrays)} for arrays in sums_by_node])


def test_sums_add_up_as_they_arrive_and_no_reply_is_kept(tmp_path):
    arrays = [sums(seed) for seed in range(9)]
    run = of_sums(tmp_path, arrays)
    result, expected = run.class_gaussians({"w": np.zeros(2, np.float16)}), gaussians(added(arrays))
    assert result.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(result[name], array, rtol=1e-6)
    assert run.grid.most <= 2
    assert run.events.read()[-1]["workers"] == [f"worker-{node}" for node in range(9)]


def test_sums_of_another_form_than_most_are_left_out(tmp_path):
    arrays = [sums(0, classes=3), sums(1), sums(2), {"counts": np.zeros(1)}]
    run = of_sums(tmp_path, arrays)
    result, expected = run.class_gaussians({}), gaussians(added(arrays[1:3]))
    for name, array in expected.items():
        np.testing.assert_allclose(result[name], array, rtol=1e-6)
    refused = [entry["name"] for entry in run.events.read()[-1]["refused"]]
    assert sorted(refused) == ["worker-0", "worker-3"]


def test_without_any_sums_there_is_nothing_to_release(tmp_path):
    with pytest.raises(NothingToRelease, match="none of 1 workers gave sums"):
        of_sums(tmp_path, [{"counts": np.zeros(1)}]).class_gaussians({})


def calibrating(node, outputs):
    moments = {"lmd": {"count": 10, "mean": float(node), "std": 1.0}}
    sketch = {"lmd": {"count": 10, "values": [node + level for level in LEVELS]}}
    return {"moments": (moments, {}), "thresholds": (sketch, {LOGITS: outputs})}


def test_the_workers_make_their_sketches_with_the_pooled_moments(tmp_path):
    run = server_run(tmp_path, [calibrating(node, np.eye(2)) for node in (0, 2)])
    replies = run.calibrate({"w": np.zeros(2, np.float16)})
    pooled = run.grid.requests[-1].config["moments"]["lmd"]
    assert (pooled["count"], pooled["mean"], pooled["std"]) == (20, 1.0, pytest.approx(2**0.5))
    assert [reply.metrics["lmd"]["values"][0] for reply in replies["thresholds"]] == [0.0, 2.0]


def test_a_worker_whose_self_test_differs_from_that_of_most_is_left_out_of_the_thresholds(tmp_path):
    run = server_run(tmp_path, [calibrating(node, np.eye(2) * (node != 1)) for node in range(3)])
    replies = run.calibrate({"w": np.zeros(2, np.float16)})
    assert [reply.worker for reply in replies["moments"]] == ["worker-0", "worker-1", "worker-2"]
    assert [reply.worker for reply in replies["thresholds"]] == ["worker-0", "worker-2"]
    refused = {"name": "worker-1", "reason": "its self-test differs from that of most workers"}
    assert run.events.read()[-1]["refused"] == [refused]
