import pytest

from fedlmd.data import load
from fedlmd.inference import channels_last, png
from fedlmd.node.config import NodeConfig
from fedlmd.node.node import Node
from fedlmd.release.shipped import PRETRAINED
from fedlmd.service.app import create_app
from fedlmd.service.client import NodeClient
from fedlmd.service.server import in_background


@pytest.fixture
def config(tmp_path):
    return NodeConfig("client1", "worker", tmp_path, threads=1)


def pictures(labels, number):
    digits = load("mnist", "eval", labels=labels).pixels[:number]
    return [png(channels_last(pixels.numpy())) for pixels in digits]


def test_the_drift_watch_of_a_node_lives_through_its_restart(config):
    # The node's processes are not started: a prediction needs none of them.
    node = Node(config)
    node.releases.use(PRETRAINED)
    with in_background(create_app(node)) as url:
        client = NodeClient(url)
        for data in pictures(["0", "1"], 6):
            client.infer(data)
        assert client.drift()["images"] == 6
        assert client.drift()["state"] == "steady"
        for data in pictures(["5", "8"], 10):
            client.infer(data)
        before = client.drift()
        assert (before["state"], before["images"]) == ("drifting", 16)
    node.stop()
    assert (config.home / "drift.json").exists()
    again = Node(config)
    with in_background(create_app(again)) as url:
        client = NodeClient(url)
        assert client.drift() == before
        assert client.health()["drift"] == {"state": "drifting", "images": 16, "alarms": 1}
        assert client.reset_drift()["state"] == "steady"
        client.infer(pictures(["0"], 1)[0], watch=False)
        assert client.drift()["images"] == 0
    again.stop()
