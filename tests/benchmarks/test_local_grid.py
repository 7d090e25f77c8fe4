"""A federation in one process."""

import numpy as np
import pytest

from benchmarks.local_grid import LocalGrid, Stopped
from fedlmd.federation.messages import pack_request, pack_weights, unpack_reply
from fedlmd.progress import Progress, Result


def doubling(action, config, weights):
    yield Progress(action, 1, 1)
    return Result({"asked": config["number"]}, {name: 2 * array for name, array in weights.items()})


def failing(action, config, weights):
    yield Progress(action, 1, 2)
    raise ValueError("the disk is full")


def ask(grid, node):
    weights = pack_weights({"w": np.ones(3, np.float32)})
    (reply,) = grid.send_and_receive([pack_request("sums", {"number": 7}, weights, node)])
    return unpack_reply(reply)


def test_a_worker_is_asked_with_what_the_message_says_and_its_reply_carries_its_name():
    grid = LocalGrid({"a": doubling, "b": failing})
    reply = ask(grid, 1)
    assert (reply.worker, reply.error, reply.metrics) == ("a", None, {"asked": 7})
    np.testing.assert_array_equal(reply.weights["w"], [2, 2, 2])
    assert list(grid.get_node_ids()) == [1, 2]


def test_what_a_worker_cannot_do_is_said_in_its_reply():
    assert ask(LocalGrid({"a": failing}), 1).error == "the disk is full"


def test_replies_come_one_by_one_so_that_nobody_is_asked_before_the_last_reply_was_taken():
    asked = []

    def noting(action, config, weights):
        asked.append(config["number"])
        yield Progress(action, 1, 1)
        return Result()

    grid = LocalGrid({"a": noting, "b": noting})
    weights = pack_weights({})
    replies = grid.send_and_receive([pack_request("sums", {"number": node}, weights, node) for node in (1, 2)])
    next(replies)
    assert asked == [1]


def test_it_keeps_no_messages():
    grid = LocalGrid({})
    for call in (lambda: grid.push_messages([]), lambda: grid.pull_messages([]), lambda: grid.run):
        with pytest.raises(NotImplementedError, match="in one process"):
            call()


def test_a_grid_that_is_stopped_lets_nobody_go_on_and_asks_nobody_else():
    asked = []

    def stopping(action, config, weights):
        asked.append(config["number"])
        grid.stopped.set()
        yield Progress(action, 1, 2)
        raise AssertionError("it went on")

    grid = LocalGrid({"a": stopping, "b": stopping})
    weights = pack_weights({})
    replies = grid.send_and_receive([pack_request("sums", {"number": node}, weights, node) for node in (1, 2)])
    assert unpack_reply(next(replies)).error == "the run was stopped"
    with pytest.raises(Stopped, match="the run was stopped"):
        next(replies)
    assert asked == [1]
