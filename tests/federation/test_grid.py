import weakref

import pytest
from flwr.app import Message
from flwr.serverapp import Grid

from fedlmd.federation.grid import PULLED, PUSHED, PollingGrid
from fedlmd.federation.messages import Reply, pack_reply, pack_request, pack_weights


class Mailbox(Grid):
    """A grid that answers a message once it was asked for it so many times, and some messages never."""

    def __init__(self, looks=1, never=()):
        self.looks, self.never = looks, {str(number) for number in never}
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
            assert self.asked[name] <= self.looks or name in self.never, "this one was answered already"
            if self.asked[name] == self.looks and name not in self.never:
                replies.append(self.reply(name))
        return replies

    def reply(self, name):
        request = pack_request("train", {}, pack_weights({}), 1)
        request.metadata.__dict__["_message_id"] = name
        message = pack_reply(request, Reply(f"site-{name}"))
        self.alive.append(weakref.ref(message))
        return message

    def living(self):
        return sum(of() is not None for of in self.alive)

    def send_and_receive(self, messages, *, timeout=None): ...


def requests(count):
    return [pack_request("train", {}, pack_weights({}), 1) for _ in range(count)]


def test_replies_are_looked_for_often_until_all_are_there():
    box = Mailbox(looks=3)
    assert len(list(PollingGrid(box, seconds=0.001).send_and_receive(requests(1)))) == 1
    assert box.asked == {"0": 3}


def test_replies_are_looked_for_until_the_timeout():
    box = Mailbox(looks=3, never=[1])
    replies = list(PollingGrid(box, seconds=0.001).send_and_receive(requests(2), timeout=0.1))
    assert [message.metadata.reply_to_message_id for message in replies] == ["0"]
    assert box.asked["1"] > 3


def test_nothing_sent_gets_no_reply():
    assert list(PollingGrid(Mailbox()).send_and_receive([])) == []


def test_messages_are_sent_at_once_and_not_only_when_the_replies_are_wanted():
    box = Mailbox()
    PollingGrid(box).send_and_receive(requests(PUSHED + 1))
    assert box.pushed == [PUSHED, 1]


@pytest.mark.parametrize("looks", [1, 2])
def test_many_replies_come_a_few_at_a_time_and_none_is_kept(looks):
    box, most, names = Mailbox(looks, never=[7]), 0, []
    for message in PollingGrid(box, seconds=0.001).send_and_receive(requests(100), timeout=0.3):
        names.append(message.metadata.reply_to_message_id)
        assert isinstance(message, Message)
        most = max(most, box.living())
    assert sorted(names, key=int) == [str(number) for number in range(100) if number != 7]
    # Of a group that is fetched while its first message is still looked at.
    assert most <= PULLED + 1
