import json

import pytest
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.node import Node, NodeConfig
from fedlmd.service import PRETRAINED, create_app, in_background


@pytest.fixture
def node(tmp_path):
    """A node that answers; none of its processes is needed for that."""
    node = Node(NodeConfig("client1", "worker", tmp_path, threads=1))
    node.use(PRETRAINED)
    yield node
    node.stop()


def test_drift_says_of_each_node_how_its_watch_stands_and_resets_it(node):
    release = node.current
    for number in range(30):
        node.watch.observe(release, 500, 0.002, str(number).encode())
    with in_background(create_app(node)) as url:
        said = CliRunner().invoke(app, ["drift", url, url, "--json", "-"])
        assert said.exit_code == 0, said.output
        assert said.stderr.count(f"{url}: drifting since about image 1, noticed at image") == 2
        assert json.loads(said.stdout)[url]["state"] == "drifting"
        assert f"{url}: steady; 0 images" in CliRunner().invoke(app, ["drift", url, "--reset"]).stderr
    assert node.watched.state == "steady"


def test_a_resumed_run_takes_no_settings():
    said = CliRunner().invoke(app, ["federate", "--resume", "20260101-000000-abcd", "--labels", "0,1"])
    assert said.exit_code == 1
    assert "a resumed run keeps the plan that it was started with; leave --settings, --labels" in said.stderr
