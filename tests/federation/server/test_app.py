import weakref

import numpy as np
import pytest

from fedlmd.calibration import EVALUATION, LEVELS, added, gaussians, sums_by_class
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import Reply, pack_reply, unpack_request
from fedlmd.federation.plan import Plan
from fedlmd.federation.server.app import NothingToRelease, ServerRun
from fedlmd.federation.server.card import finish_release
from fedlmd.federation.server.grid import PollingGrid
from fedlmd.federation.server.round_record import most_asked
from fedlmd.release import LOGITS, VERDICT


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
    plan = Plan("r", "x", {"calibration": {"alpha": 0.05, "images": 500}})
    return ServerRun(ReplyingGrid(replies), plan, tmp_path, EventLog(tmp_path))


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


def calibrating(node, outputs, count=10):
    moments = {"lmd": {"count": count, "mean": float(node), "std": 1.0}}
    sketch = {"count": count, "values": [node + level for level in LEVELS]}
    return {"moments": (moments, {}), "thresholds": ({"lmd": sketch, VERDICT: sketch}, {LOGITS: outputs})}


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


def test_a_worker_without_evaluation_scores_is_as_good_as_the_others(tmp_path):
    replies = [calibrating(node, np.eye(2)) for node in range(3)]
    for node in (0, 1):
        sketches, _ = replies[node]["thresholds"]
        sketches[EVALUATION] = sketches[VERDICT]
    run = server_run(tmp_path, replies)
    assert len(run.calibrate({})["thresholds"]) == 3


def test_images_of_all_workers_that_are_too_few_for_alpha_give_no_release(tmp_path):
    run = server_run(tmp_path, [calibrating(node, np.eye(2), count=9) for node in range(2)])
    with pytest.raises(NothingToRelease, match=r"there are 18 images to calibrate with, .* of 0\.05 needs 19"):
        run.calibrate({})
    assert [event["step"] for event in run.events.read()] == ["moments", "thresholds"]
    enough = server_run(tmp_path, [calibrating(node, np.eye(2), count=count) for node, count in enumerate((9, 10))])
    assert len(enough.calibrate({})["thresholds"]) == 2


def test_a_sketch_of_more_images_than_are_scored_is_refused(tmp_path):
    run = server_run(tmp_path, [calibrating(0, np.eye(2), count=500), calibrating(1, np.eye(2), count=501)])
    assert [reply.worker for reply in run.calibrate({})["thresholds"]] == ["worker-0"]
    assert "'lmd' has a count of 501; it is a whole number of at most 500" in str(run.events.read()[-1]["refused"])


def test_the_workers_of_a_run_are_the_most_that_a_round_asked(tmp_path):
    log = EventLog(tmp_path)
    for asked in (2, 3, 1):
        log.append("round", asked=asked)
    log.append("calibrating", asked=9)
    assert most_asked(log, {"round": 3, "asked": 1}) == 3
    assert most_asked(EventLog(tmp_path / "none"), {"round": 3, "asked": 4}) == 4


def test_the_sketches_of_evaluation_images_become_the_cards_promise(tmp_path):
    replies = [calibrating(node, np.eye(2), count=100) for node in range(2)]
    for reply in replies:
        sketches, _ = reply["thresholds"]
        sketches[EVALUATION] = {"count": 100, "values": [value + 5 for value in sketches[VERDICT]["values"]]}
    run = server_run(tmp_path, replies)
    card = finish_release(run.plan, {}, {}, run.calibrate({}))
    promise = card["calibration"]["promise"]
    assert (promise["images"], promise["false_alarms"], promise["kept"]) == (200, 200, False)
    assert EVALUATION not in card["calibration"]["sketches"]
