import pytest

from fedlmd.client import NodeClient
from fedlmd.data import load
from fedlmd.node import Node, NodeConfig
from fedlmd.pictures import channels_last, png
from fedlmd.service import PRETRAINED, create_app, in_background


@pytest.fixture
def config(tmp_path):
    return NodeConfig("client1", "worker", tmp_path, threads=1)


def pictures(labels, number):
    digits = load("mnist", "eval", labels=labels).pixels[:number]
    return [png(channels_last(pixels.numpy())) for pixels in digits]


def test_the_drift_watch_of_a_node_lives_through_its_restart(config):
    # The node's processes are not started: answering needs none of them.
    node = Node(config)
    node.use(PRETRAINED)
    with in_background(create_app(node)) as url:
        client = NodeClient(url)
        for data in pictures(["0", "1"], 20):
            client.infer(data)
        assert client.drift()["images"] == 20
        assert client.drift()["state"] == "steady"
        for data in pictures(["5", "8"], 40):
            client.infer(data)
        before = client.drift()
        assert (before["state"], before["images"]) == ("drifting", 60)
    node.stop()
    assert (config.home / "drift.json").exists()
    again = Node(config)
    with in_background(create_app(again)) as url:
        client = NodeClient(url)
        assert client.drift() == before
        assert client.health()["drift"] == {"state": "drifting", "images": 60, "alarms": 1}
        assert client.reset_drift()["state"] == "steady"
        client.infer(pictures(["0"], 1)[0], watch=False)
        assert client.drift()["images"] == 0
    again.stop()
