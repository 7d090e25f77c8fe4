import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import pytest

from fedlmd.federation.announcement import Announcement
from fedlmd.federation.worker_list import AnnouncedWorker, WorkerList

CLOCK = 1_790_000_000.0


@pytest.fixture
def workers():
    return WorkerList()


def sent(name="a", instance="1", **fields):
    return replace(Announcement(name, instance, version("fedlmd"), version("flwr"), CLOCK), **fields)


def test_a_worker_is_listed_with_what_it_said_and_connected_for_five_seconds(workers):
    said = {"labels": {"cat": 3}, "images": {"depth": 8}, "problem": None, "doing": None}
    assert workers.announce(sent(**said), 100.0, CLOCK) is None
    [worker] = workers.list(104.9)
    assert worker == AnnouncedWorker(
        "a", version("fedlmd"), version("flwr"), **said, refused=None, connected=True, last_seen=worker.last_seen
    )
    assert worker.last_seen == datetime.fromtimestamp(CLOCK, UTC)
    assert worker.label_names == ("cat",)
    [worker] = workers.list(105.1)
    assert (worker.connected, worker.refused) == (False, None)
    assert len(workers.list(3700.0)) == 1
    assert workers.list(3701.0) == []


def test_a_listed_worker_is_read_from_json_as_it_was(workers):
    workers.announce(sent("a", labels={"cat": 3}), 0.0, CLOCK)
    workers.announce(sent("b", labels=("cat",)), 0.0, CLOCK)
    workers.announce(sent("c"), 0.0, CLOCK)
    for worker in workers.list(1.0):
        assert AnnouncedWorker.from_json(json.loads(json.dumps(worker.to_json()))) == worker


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"version": "0.0.9"}, "it runs fedlmd 0.0.9 and the server"),
        ({"flower": "1.41.7"}, "it runs Flower 1.41 and the server 1.42; install the server's version at the worker"),
        ({"clock": CLOCK + 5.5}, r"its clock is 6 s ahead of the server's \(at most 5 s\); set the clocks"),
        ({"clock": CLOCK - 301}, r"its clock is 301 s behind the server's \(at most 300 s\)"),
        ({"name": 'a "b"'}, "must be without quotation marks"),
        ({"name": "a\u2028b"}, "printable characters"),
    ],
)
def test_a_worker_that_cannot_take_part_is_refused_with_the_reason_and_listed(workers, fields, words):
    refused = workers.announce(sent(**{"labels": {"cat": 3}, **fields}), 0.0, CLOCK)
    assert re.search(words, refused)
    [worker] = workers.list(1.0)
    assert (worker.refused, worker.connected, worker.labels) == (refused, False, None)


def test_another_patch_of_flower_and_a_clock_within_the_limits_are_accepted(workers):
    major_minor = ".".join(version("flwr").split(".")[:2])
    assert workers.announce(sent(flower=f"{major_minor}.99", clock=CLOCK + 4.9), 0.0, CLOCK) is None
    assert workers.announce(sent(clock=CLOCK - 299), 1.0, CLOCK) is None


def test_the_later_of_two_workers_of_one_name_is_refused_until_the_first_is_gone(workers):
    assert workers.announce(sent("a", "1"), 0.0, CLOCK) is None
    assert "another worker is connected under the name 'a'" in workers.announce(sent("a", "2"), 1.0, CLOCK)
    assert workers.announce(sent("b", "3"), 1.0, CLOCK) is None
    assert workers.announce(sent("a", "2"), 14.9, CLOCK) is not None
    assert workers.announce(sent("a", "2"), 15.0, CLOCK) is None
    # It holds the name now, and the first process of the name is forgotten once it is gone for good.
    assert workers.announce(sent("a", "1"), 16.0, CLOCK) is not None
    workers.announce(sent("a", "2"), 40.0, CLOCK)
    assert [(worker.name, worker.refused) for worker in workers.list(40.0)] == [("a", None), ("b", None)]


def test_a_worker_that_leaves_frees_its_name_at_once_and_only_its_own(workers):
    workers.announce(sent("a", "1"), 0.0, CLOCK)
    assert workers.announce(sent("a", "other", leaving=True), 0.5, CLOCK) is None
    assert [worker.name for worker in workers.list(1.0)] == ["a"]
    assert workers.announce(sent("a", "1", leaving=True), 1.0, CLOCK) is None
    assert workers.list(1.0) == []
    assert workers.announce(sent("a", "2"), 1.1, CLOCK) is None


def test_a_full_list_drops_who_is_refused_or_gone_and_never_who_is_connected():
    workers = WorkerList(most=3)
    workers.announce(sent("a"), 0.0, CLOCK)
    workers.announce(sent("b", version="0"), 1.0, CLOCK)
    workers.announce(sent("c"), 2.0, CLOCK)
    assert workers.announce(sent("d"), 3.0, CLOCK) is None
    assert [worker.name for worker in workers.list(3.0)] == ["a", "c", "d"]
    assert workers.announce(sent("e"), 4.0, CLOCK) == "the server already lists 3 workers; it takes no more"
    assert workers.announce(sent("a"), 14.0, CLOCK) is None
    assert workers.announce(sent("e"), 17.5, CLOCK) is None
    assert [worker.name for worker in workers.list(17.5)] == ["a", "d", "e"]


def test_labels_beyond_what_the_server_keeps_of_all_workers_are_left_out():
    workers = WorkerList(labels=5)
    for name, number in (("a", 3), ("b", 3), ("c", 2), ("a", 3)):
        sent_labels = {str(label): 1 for label in range(number)}
        assert workers.announce(sent(name, labels=sent_labels), 0.0, CLOCK) is None
    assert {worker.name: worker.labels and len(worker.labels) for worker in workers.list(1.0)} == {
        "a": 3,
        "b": None,
        "c": 2,
    }
