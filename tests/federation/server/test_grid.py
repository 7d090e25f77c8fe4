import time
import weakref

import pytest
from flwr.app import Message
from flwr.serverapp import Grid

from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import Reply, pack_reply, pack_request, pack_weights
from fedlmd.federation.server.grid import PULLED, PUSHED, FixedNodesGrid, PollingGrid, wait_for_clients


class Mailbox(Grid):
    """A grid that replies to a message when it was polled so many times, and to some messages never."""

    def __init__(self, polls=1, never=()):
        self.polls, self.never = polls, {str(number) for number in never}
        self.asked, self.pushed, self.alive = {}, [], []

    def set_run(self, run): ...

    run = property(lambda self: None)

    def create_message(self, *args, **kwargs): ...

    def get_node_ids(self):
        return [1]

    def push_messages(self, messages):
        ids = []
        for message in messages:
            ids.append(str(sum(self.pushed) + len(ids)))
            message.metadata.__dict__["_message_id"] = ids[-1]
        self.pushed.append(len(ids))
        return ids

    def pull_messages(self, message_ids):
        replies = []
        for name in message_ids:
            self.asked[name] = self.asked.get(name, 0) + 1
            assert self.asked[name] <= self.polls or name in self.never, "this one had its reply already"
            if self.asked[name] == self.polls and name not in self.never:
                replies.append(self.reply(name))
        return replies

    def reply(self, name):
        request = pack_request("train", {}, pack_weights({}), 1)
        request.metadata.__dict__["_message_id"] = name
        message = pack_reply(request, Reply(f"worker-{name}"))
        self.alive.append(weakref.ref(message))
        return message

    def living(self):
        return sum(reference() is not None for reference in self.alive)

    def send_and_receive(self, messages, *, timeout=None): ...


def requests(count):
    return [pack_request("train", {}, pack_weights({}), 1) for _ in range(count)]


def test_replies_are_polled_for_until_all_have_arrived():
    box = Mailbox(polls=3)
    assert len(list(PollingGrid(box, seconds=0.001).send_and_receive(requests(1)))) == 1
    assert box.asked == {"0": 3}


def test_replies_are_polled_for_until_the_timeout():
    box = Mailbox(polls=3, never=[1])
    replies = list(PollingGrid(box, seconds=0.001).send_and_receive(requests(2), timeout=0.1))
    assert [message.metadata.reply_to_message_id for message in replies] == ["0"]
    assert box.asked["1"] > 3


def test_nothing_sent_gets_no_reply():
    assert list(PollingGrid(Mailbox()).send_and_receive([])) == []


def test_messages_are_sent_at_once_and_not_only_when_the_replies_are_wanted():
    box = Mailbox()
    PollingGrid(box).send_and_receive(requests(PUSHED + 1))
    assert box.pushed == [PUSHED, 1]


@pytest.mark.parametrize("polls", [1, 2])
def test_many_replies_come_a_few_at_a_time_and_none_is_kept(polls):
    box, most, names = Mailbox(polls, never=[7]), 0, []
    for message in PollingGrid(box, seconds=0.001).send_and_receive(requests(100), timeout=0.3):
        names.append(message.metadata.reply_to_message_id)
        assert isinstance(message, Message)
        most = max(most, box.living())
    assert sorted(names, key=int) == [str(number) for number in range(100) if number != 7]
    # A group is pulled while the last message of the one before is still in use.
    assert most <= PULLED + 1


class GrowingGrid(PollingGrid):
    """A grid whose number of nodes is the next of some counts at each call, and the last one from then on."""

    def __init__(self, *counts):
        self.counts = list(counts)

    def get_node_ids(self):
        return range(self.counts.pop(0) if len(self.counts) > 1 else self.counts[0])


def test_clients_are_waited_for_until_there_are_enough(tmp_path):
    grid, events = GrowingGrid(0, 0, 1, 2), EventLog(tmp_path)
    assert wait_for_clients(grid, 2, 60.0, events, sleep=lambda seconds: None, round=3) == [0, 1]
    assert grid.counts == [2]
    waiting = [{key: event[key] for key in event if key != "time"} for event in events.read()]
    assert waiting == [{"event": "waiting", "round": 3, "connected": count, "needed": 2} for count in (0, 1)]


def test_when_the_time_is_over_the_clients_are_those_that_are_connected(tmp_path):
    began, events = time.monotonic(), EventLog(tmp_path)
    assert wait_for_clients(GrowingGrid(1), 2, 0.6, events) == [0]
    assert 0.6 <= time.monotonic() - began < 5
    assert len(events.read()) == 1


def test_fixed_nodes_do_not_change_with_the_grid():
    assert FixedNodesGrid(GrowingGrid(3, 0), [4, 7]).get_node_ids() == [4, 7]
