"""A server and workers in this process, with real processes of Flower."""

import os
import time

import pytest
from PIL import Image

from fedlmd.federation.flower.processes import EngineError
from fedlmd.node.cluster import free_port
from fedlmd.node.config import NodeConfig
from fedlmd.node.node import Node
from fedlmd.settings import from_mapping

SETTINGS = from_mapping({"labels": ["cat", "dog"], "data": {"source": "pets"}})


@pytest.fixture(scope="module", params=["127.0.0.1", "[::1]"])
def server(request, tmp_path_factory):
    if request.param == "[::1]" and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    address = f"{request.param}:{free_port()}"
    node = Node(NodeConfig("server", "server", tmp_path_factory.mktemp("server"), superlink=address, threads=1))
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture
def pets(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "root" / "pets" / label).mkdir(parents=True)
        for index in range(5):
            Image.new("L", (20, 20), 9 * index).save(tmp_path / "root" / "pets" / label / f"{index}.png")
    return tmp_path / "root"


@pytest.fixture
def start(server, tmp_path, monkeypatch):
    """Starts workers of which nothing but the trainer is left out."""
    monkeypatch.setattr("fedlmd.node.trainer.Trainer.start", lambda self: None)
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    nodes = []

    def started(home, data, name="ward"):
        config = NodeConfig(
            name, "worker", tmp_path / home, SETTINGS, superlink=server.config.superlink,
            flower_port=free_port(), threads=1, data=data,
        )  # fmt: skip
        nodes.append(Node(config))
        nodes[-1].participant.images.again = 0.2
        nodes[-1].start()
        return nodes[-1]

    yield started
    for node in nodes:
        node.stop()


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def listed(server):
    return [(worker.name, worker.connected, worker.problem, worker.refused) for worker in server.workers()]


def test_a_worker_takes_part_once_its_images_can_be_used(server, start, pets):
    pets.rename(pets.with_name("elsewhere"))
    worker = start("a", pets)
    until(lambda: worker.connection.state == "connected")
    until(lambda: worker.data.state == "unusable")
    problem = f"there is no data root {pets}; mount or make it, or name another with --data"
    until(lambda: listed(server) == [("ward", True, problem, None)])
    assert worker.participant.engine.pid is None
    pets.with_name("elsewhere").rename(pets)
    until(lambda: worker.participant.engine.pid is not None)
    until(lambda: listed(server) == [("ward", True, None, None)])
    [shown] = server.workers()
    assert (shown.labels, shown.images["images"]) == ({"cat": 4, "dog": 4}, 10)
    supernode = worker.config.logs / "supernode.log"
    until(lambda: "SuperNode ID" in supernode.read_text())
    worker.stop()
    assert worker.participant.engine.pid is None
    assert listed(server) == []


def test_the_second_of_two_workers_of_one_name_takes_part_when_the_first_has_left(server, start, pets):
    first = start("a", pets)
    until(lambda: first.participant.engine.pid is not None)
    second = start("b", pets)
    until(lambda: second.connection.state == "refused")
    assert "another worker is connected under the name 'ward'" in second.connection.reason
    assert second.participant.engine.pid is None
    assert [(name, connected) for name, connected, _, _ in listed(server)] == [("ward", True), ("ward", False)]
    first.stop()
    until(lambda: second.connection.state == "connected" and second.participant.engine.pid is not None)


def test_announcements_do_not_fill_the_log_of_flowers_server(server):
    text = (server.config.logs / "superlink.log").read_text()
    assert "/v1/fleet/" in text
    assert "/v1/fedlmd/" not in text


def test_a_workers_own_port_that_is_taken_is_named_when_it_starts(server, tmp_path, pets):
    port = server.engine.port
    host = server.engine.host
    if ":" in host:
        pytest.skip("a worker's own processes listen at 127.0.0.1")
    node = Node(NodeConfig("x", "worker", tmp_path / "x", superlink="127.0.0.1:1", flower_port=port, threads=1))
    with pytest.raises(EngineError, match=f"port {port} of 127.0.0.1 cannot be used"):
        node.participant.start()
    node.stop()


def test_a_name_or_an_address_of_another_form_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="without quotation marks"):
        Node(NodeConfig('a "b"', "worker", tmp_path))
    for role in ("server", "worker"):
        with pytest.raises(ValueError, match="it is host:port with a port from 1 to 65535"):
            Node(NodeConfig("a", role, tmp_path, superlink="9092"))
    assert list(tmp_path.iterdir()) == []
