import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fedlmd.federation.client_app import handle
from fedlmd.federation.messages import pack_request, pack_weights, unpack_reply
from fedlmd.federation.trainer.client import TrainerClient
from fedlmd.federation.trainer.server import serve
from fedlmd.progress import Progress, Result

CONTEXT = SimpleNamespace(node_config={"name": "worker-0"}, node_id=7)


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    def handler(action, config, weights):
        if action == "fail":
            raise ValueError("no images")
        for step in range(config["steps"]):
            yield Progress("train", step, config["steps"])
            time.sleep(0.01)
        return Result({"num-examples": 5}, {name: array + 1 for name, array in weights.items()})

    stop = threading.Event()
    client = TrainerClient(tmp_path / "trainer" / "t.sock", b"key")
    thread = threading.Thread(target=serve, args=(handler, client.socket_path, b"key"), kwargs={"stop": stop})
    thread.start()
    client.wait(10)
    for name, value in client.environment().items():
        monkeypatch.setenv(name, value)
    yield client
    stop.set()
    thread.join(10)


def reply_to(action, **settings):
    request = pack_request(action, settings, pack_weights({"w": np.zeros(2, np.float32)}), 7)
    return unpack_reply(handle(request, CONTEXT))


def test_a_message_gets_the_reply_of_the_warm_trainer(trainer):
    reply = reply_to("train", steps=2)
    assert (reply.worker, reply.error, reply.metrics) == ("worker-0", None, {"num-examples": 5})
    np.testing.assert_array_equal(reply.weights["w"], [1, 1])


def test_the_error_of_the_trainer_is_in_the_reply(trainer):
    assert reply_to("fail").error == "no images"


def test_work_for_which_the_server_no_longer_waits_is_stopped(trainer):
    assert reply_to("train", steps=100_000, seconds=0.1).error == "'train' was stopped after 0.1 seconds"
    deadline = time.monotonic() + 5
    while trainer.status().busy:
        assert time.monotonic() < deadline
    assert reply_to("train", steps=1, seconds=60).error is None


def test_a_trainer_that_is_started_again_is_waited_for(trainer, tmp_path, monkeypatch):
    elsewhere = TrainerClient(tmp_path / "again" / "t.sock", b"key")
    monkeypatch.setenv("FEDLMD_TRAINER_SOCKET", str(elsewhere.socket_path))
    began = time.monotonic()
    error = reply_to("train", steps=1, seconds=0.3).error
    assert error.startswith("no trainer answers at")
    assert time.monotonic() - began >= 0.3
    elsewhere.socket_path.parent.mkdir()
    start = threading.Timer(0.3, elsewhere.socket_path.symlink_to, [trainer.socket_path])
    start.start()
    assert reply_to("train", steps=1, seconds=60).error is None
    start.join()


def test_a_missing_trainer_is_an_error_in_the_reply(monkeypatch):
    monkeypatch.delenv("FEDLMD_TRAINER_SOCKET", raising=False)
    assert "must name the trainer" in reply_to("train").error
