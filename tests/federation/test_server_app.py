import time
import weakref

import numpy as np
import pytest

from fedlmd.federation.events import EventLog
from fedlmd.federation.grid import PollingGrid
from fedlmd.federation.messages import Reply, pack_reply, unpack_request
from fedlmd.federation.plan import Plan
from fedlmd.federation.server_app import Conductor, NothingToRelease
from fedlmd.statistics import added, gaussians, sums_by_class


class Answering(PollingGrid):
    """A grid whose nodes answer in this process, one after the other."""

    def __init__(self, answers):
        self.answers, self.living, self.most = answers, [], 0

    def get_node_ids(self):
        return range(len(self.answers))

    def send_and_receive(self, messages, *, timeout=None):
        for message in messages:
            assert unpack_request(message).action == "sums"
            weights = {name: array.copy() for name, array in self.answers[message.metadata.dst_node_id].items()}
            reply = pack_reply(message, Reply(f"site-{message.metadata.dst_node_id}", weights=weights))
            del message
            self.living.append(weakref.ref(reply))
            self.most = max(self.most, sum(of() is not None for of in self.living))
            yield reply


def sums(seed, classes=2):
    generator = np.random.default_rng(seed)
    return sums_by_class(generator.normal(size=(20, 3)), generator.integers(0, classes, 20), classes)


def conductor(tmp_path, answers):
    return Conductor(Answering(answers), Plan("r", 1, "x"), tmp_path, EventLog(tmp_path))


def test_sums_add_up_as_they_come_and_no_reply_is_kept(tmp_path):
    answers = [sums(seed) for seed in range(9)]
    of = conductor(tmp_path, answers)
    found, expected = of.describe({"w": np.zeros(2, np.float16)}), gaussians(added(answers))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)
    assert of.grid.most <= 2
    assert of.events.read()[-1]["workers"] == [f"site-{node}" for node in range(9)]


def test_sums_of_another_form_than_most_are_left_out(tmp_path):
    answers = [sums(0, classes=3), sums(1), sums(2), {"counts": np.zeros(1)}]
    of = conductor(tmp_path, answers)
    found, expected = of.describe({}), gaussians(added(answers[1:3]))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)
    refused = [entry["name"] for entry in of.events.read()[-1]["refused"]]
    assert sorted(refused) == ["site-0", "site-3"]


def test_without_any_sums_there_is_nothing_to_release(tmp_path):
    with pytest.raises(NothingToRelease, match="none of 1 workers gave sums"):
        conductor(tmp_path, [{"counts": np.zeros(1)}]).describe({})


class Coming(PollingGrid):
    """A grid whose nodes come one by one, at each look."""

    def __init__(self, *counts):
        self.counts = list(counts)

    def get_node_ids(self):
        return range(self.counts.pop(0) if len(self.counts) > 1 else self.counts[0])


def waiting(grid, events, **changes):
    return Conductor(grid, Plan("r", 1, "x", **changes), events.path.parent, events)


@pytest.fixture
def events(tmp_path):
    return EventLog(tmp_path)


def test_the_calibration_waits_until_the_workers_are_there_again(events):
    grid = Coming(0, 0, 1, 2)
    waiting(grid, events, min_workers=2, wait_seconds=60).gather()
    assert grid.counts == [2]
    assert [(event["event"], event["connected"]) for event in events.read()] == [("waiting", 0), ("waiting", 1)]


def test_with_fewer_workers_than_a_round_needs_the_calibration_goes_on_after_its_time(events):
    began = time.monotonic()
    waiting(Coming(1), events, min_workers=2, wait_seconds=0.6).gather()
    assert 0.6 <= time.monotonic() - began < 5
    assert len(events.read()) == 1
