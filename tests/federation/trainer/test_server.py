import multiprocessing.connection
import socket
import stat
import threading
import time

import numpy as np
import pytest

from fedlmd.federation.trainer.client import TrainerBusy, TrainerClient, TrainerError, TrainerUnreachable
from fedlmd.federation.trainer.server import serve
from fedlmd.progress import Progress, Result, drain

KEY = b"a shared secret"


class Handler:
    """Does what its config says, and records that it was closed."""

    def __init__(self):
        self.closed = threading.Event()
        self.opened = threading.Event()

    def __call__(self, action, config, weights):
        if action == "fail":
            raise ValueError("label 7 has no images; choose among 0 to 6")
        if action == "crash":
            raise KeyError("what")
        try:
            for step in range(config.get("steps", 1)):
                yield Progress(action, step, config.get("steps", 1), {"loss": 1 / (1 + step)})
                if action == "wait":
                    assert self.opened.wait(20)
                if action == "tick":
                    time.sleep(0.02)
            return Result({"num-examples": 3, "list": [1.5, 2.5]}, {name: 2 * w for name, w in weights.items()})
        finally:
            self.closed.set()


@pytest.fixture
def handler():
    return Handler()


@pytest.fixture
def client(handler, tmp_path):
    stop = threading.Event()
    path = tmp_path / "socket" / "trainer.sock"
    thread = threading.Thread(target=serve, args=(handler, path, KEY), kwargs={"stop": stop})
    thread.start()
    trainer = TrainerClient(path, KEY)
    trainer.wait(10)
    yield trainer
    handler.opened.set()
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def wait_until_free(client):
    deadline = time.monotonic() + 5
    while client.status().busy:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_work_reports_its_steps_and_returns_the_result(client):
    steps = []
    result = drain(client.call("train", {"steps": 3}, {"w": np.arange(4, dtype=np.float16)}), steps.append)
    assert [step.done for step in steps] == [0, 1, 2]
    assert steps[1] == Progress("train", 1, 3, {"loss": 0.5})
    assert result.metrics == {"num-examples": 3, "list": [1.5, 2.5]}
    np.testing.assert_array_equal(result.weights["w"], np.array([0, 2, 4, 6], dtype=np.float16))
    assert result.weights["w"].dtype == np.float16


def test_big_arrays_pass_unchanged(client):
    big = np.random.default_rng(0).normal(size=(3000, 4000)).astype(np.float32)  # 48 MB
    result = drain(client.call("train", {}, {"big": big, "transposed": big[:10].T, "scalar": np.float32(3)}))
    np.testing.assert_array_equal(result.weights["big"], 2 * big)
    np.testing.assert_array_equal(result.weights["transposed"], 2 * big[:10].T)
    assert result.weights["scalar"] == 6


def test_a_second_call_is_refused_while_one_runs(client, handler):
    first = client.call("wait", {}, {})
    next(first)
    with pytest.raises(TrainerBusy, match="works on something else"):
        drain(client.call("train", {}, {}))
    handler.opened.set()
    assert drain(first).metrics["num-examples"] == 3
    assert drain(client.call("train", {}, {})).metrics["num-examples"] == 3


def test_the_status_is_there_while_work_runs(client, handler):
    assert not client.status().busy
    call = client.call("wait", {}, {})
    progress = next(call)
    began = time.monotonic()
    status = client.status()
    assert time.monotonic() - began < 1
    assert (status.busy, status.action, status.progress) == (True, "wait", progress)
    handler.opened.set()
    list(call)


def test_a_dropped_connection_stops_the_work_and_frees_the_trainer(client, handler):
    call = client.call("tick", {"steps": 100_000}, {})
    next(call)
    call.close()
    assert handler.closed.wait(5)
    wait_until_free(client)
    assert drain(client.call("train", {}, {})).metrics["num-examples"] == 3


def test_cancelled_work_stops_and_says_so(client, handler):
    assert client.cancel() is False
    call = client.call("tick", {"steps": 100_000}, {})
    next(call)
    assert client.cancel() is True
    with pytest.raises(TrainerError, match="'tick' was cancelled"):
        list(call)
    assert handler.closed.wait(5)


def test_an_error_of_the_domain_arrives_as_its_sentence(client):
    with pytest.raises(TrainerError, match=r"^label 7 has no images; choose among 0 to 6$"):
        drain(client.call("fail", {}, {}))


def test_an_unexpected_error_arrives_without_a_traceback(client):
    with pytest.raises(TrainerError, match=r"^KeyError: 'what'$"):
        drain(client.call("crash", {}, {}))
    assert drain(client.call("train", {}, {})).metrics["num-examples"] == 3


def test_a_wrong_key_is_refused(client):
    with pytest.raises(TrainerUnreachable, match="does not take this key"):
        TrainerClient(client.socket_path, b"another secret").status()
    assert not client.status().busy


def test_clients_that_stall_in_the_handshake_block_no_other(client):
    stalled = [multiprocessing.connection.Client(str(client.socket_path), family="AF_UNIX") for _ in range(3)]
    assert not client.status().busy
    for connection in stalled:
        connection.close()


def test_the_sockets_folder_is_for_this_user_alone(client):
    assert stat.S_IMODE(client.socket_path.parent.stat().st_mode) == 0o700


def test_a_second_trainer_at_the_same_socket_is_refused(client, handler):
    with pytest.raises(ValueError, match="another trainer already listens"):
        serve(handler, client.socket_path, KEY)


def test_a_long_socket_path_is_refused_with_the_limit(tmp_path, handler):
    with pytest.raises(ValueError, match="at most 100"):
        serve(handler, tmp_path / ("long" * 25) / "trainer.sock", KEY)


def test_a_folder_that_others_may_enter_is_refused(tmp_path, handler):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(ValueError, match="has mode 755; it must be 700"):
        serve(handler, tmp_path / "open" / "trainer.sock", KEY)


def test_the_socket_of_a_dead_trainer_is_removed(tmp_path, handler):
    path = tmp_path / "socket" / "trainer.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    stop = threading.Event()
    stop.set()
    serve(handler, path, KEY, stop=stop)
