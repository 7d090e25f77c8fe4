"""A worker's connection step by step, with scripted answers of the server."""

import logging
import time

import pytest

from fedlmd.federation.announcement import LARGEST, Announcement
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.requests import Answer
from fedlmd.node.connection import ServerConnection

ACCEPTED, LOST = Answer("accepted"), Answer("unreachable", "nothing listens at server:9092")


class Worker:
    """A worker whose server gives the answers of a list; it records what Flower's processes were asked."""

    def __init__(self):
        self.problem, self.labels, self.answers, self.sent, self.calls, self.failure = None, None, [], [], [], None
        self.connection = ServerConnection(Address("server", 9092), self, self.describe, send=self.send)

    def describe(self):
        return Announcement("w", "1", "0", "1", 0.0, self.labels, None, self.problem)

    def send(self, address, sent, timeout):
        self.sent.append(sent)
        return self.answers.pop(0)

    def start(self):
        self.calls.append("start")
        if self.failure:
            raise EngineError(self.failure)

    def stop(self):
        self.calls.append("stop")

    def steps(self, *answers):
        self.answers += answers
        for _ in answers:
            self.connection.step()
        now = self.connection.now
        return now.state, now.reason


@pytest.fixture
def worker():
    return Worker()


def refused(reason):
    return Answer("refused", reason)


def test_flowers_processes_start_once_when_the_server_accepts_the_worker(worker):
    assert worker.connection.now.state == "connecting"
    assert worker.steps(LOST) == ("unreachable", LOST.reason)
    assert worker.steps(refused("its clock is wrong")) == ("refused", "its clock is wrong")
    assert worker.calls == []
    assert worker.steps(ACCEPTED, ACCEPTED) == ("connected", None)
    assert worker.calls == ["start"]


def test_a_worker_that_is_refused_later_takes_part_no_more_until_it_is_accepted_again(worker):
    assert worker.steps(ACCEPTED, refused("its name is taken")) == ("refused", "its name is taken")
    assert worker.calls == ["start", "stop"]
    worker.steps(refused("its name is taken"), ACCEPTED)
    assert worker.calls == ["start", "stop", "start"]


def test_a_server_that_is_away_ends_nothing_and_a_missed_announcement_is_no_loss(worker):
    assert worker.steps(ACCEPTED, LOST) == ("connected", None)
    worker.connection.accepted -= 6.0
    assert worker.steps(LOST) == ("unreachable", LOST.reason)
    assert worker.steps(ACCEPTED) == ("connected", None)
    assert worker.calls == ["start"]


def test_a_worker_whose_announcements_get_stuck_is_not_connected(worker):
    worker.steps(ACCEPTED)
    worker.connection.accepted -= 8.0
    now = worker.connection.now
    assert (now.state, now.reason) == ("unreachable", "the server has not responded for 8 s")


def test_a_worker_without_usable_images_announces_itself_and_starts_nothing(worker):
    worker.problem = "there is no data root"
    assert worker.steps(ACCEPTED) == ("connected", None)
    assert (worker.sent[-1].problem, worker.calls) == ("there is no data root", [])
    worker.problem = None
    worker.steps(ACCEPTED)
    assert worker.calls == ["start"]


def test_processes_that_do_not_start_are_tried_again_and_the_reason_is_shown(worker):
    worker.failure = "port 9094 cannot be used"
    assert worker.steps(ACCEPTED) == ("connected", "port 9094 cannot be used")
    worker.failure = None
    assert worker.steps(ACCEPTED) == ("connected", None)
    assert worker.calls == ["start", "start"]


def test_more_labels_than_an_announcement_holds_are_left_out(worker):
    worker.labels = {f"{number:06d}" + "x" * 50: 1 for number in range(9_000)}
    worker.steps(ACCEPTED)
    assert worker.sent[-1].labels is None
    assert len(worker.sent[-1].to_json()) < LARGEST


def test_a_change_is_logged_once_whatever_numbers_the_reason_has(worker, caplog):
    with caplog.at_level(logging.INFO):
        worker.steps(refused("its clock is 400 s behind"), refused("its clock is 402 s behind"), ACCEPTED, ACCEPTED)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "refused by the server at server:9092: its clock is 400 s behind"),
        ("INFO", "connected to the server at server:9092"),
    ]


def test_the_time_of_a_state_is_that_of_its_beginning(worker):
    worker.steps(refused("a 1"))
    since = worker.connection.now.since
    worker.steps(refused("a 2"))
    assert (worker.connection.now.since, worker.connection.now.reason) == (since, "a 2")
    worker.steps(ACCEPTED)
    assert worker.connection.now.since > since


def test_a_worker_announces_itself_soon_after_a_change_and_leaves_at_the_end(worker):
    worker.answers += [ACCEPTED] * 3
    worker.connection.every = 60.0
    worker.connection.start()
    deadline = time.monotonic() + 10
    while worker.connection.now.state != "connected":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.connection.announce_soon()
    while len(worker.sent) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.connection.leave()
    worker.connection.stop()
    worker.connection.thread.join(10)
    assert [sent.leaving for sent in worker.sent] == [False, False, True]
    assert worker.calls == ["start", "stop"]


def test_an_error_of_the_worker_itself_does_not_end_the_announcements(worker, caplog):
    worker.connection.every = 0.01
    worker.connection.start()
    deadline = time.monotonic() + 10
    while len(worker.sent) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    worker.connection.stop()
    worker.connection.thread.join(10)
    assert "this worker could not announce itself" in caplog.text
