import json
import time
from threading import Thread

import pytest
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.federation.events import EventLog
from fedlmd.node.config import NodeConfig
from fedlmd.node.node import Node
from fedlmd.release.shipped import PRETRAINED
from fedlmd.service.app import create_app
from fedlmd.service.server import in_background
from tests.service.training_host import ScriptedRuns, TrainingHost


@pytest.fixture
def node(tmp_path):
    """A node with a release; predictions need none of its processes."""
    node = Node(NodeConfig("client1", "worker", tmp_path, threads=1))
    node.releases.use(PRETRAINED)
    yield node
    node.stop()


def test_drift_shows_the_state_of_each_nodes_watch_and_resets_it(node):
    release = node.releases.current
    for number in range(30):
        node.watch.observe(release, 500, 0.002, str(number).encode())
    with in_background(create_app(node)) as url:
        result = CliRunner().invoke(app, ["drift", url, url, "--json", "-"])
        assert result.exit_code == 0, result.output
        assert result.stderr.count(f"{url}: drifting since about image 1, noticed at image") == 2
        assert json.loads(result.stdout)[url]["state"] == "drifting"
        assert f"{url}: steady; 0 images" in CliRunner().invoke(app, ["drift", url, "--reset"]).stderr
    assert node.watched.state == "steady"


def test_the_log_of_a_run_is_printed_and_written_as_curves(tmp_path):
    events = EventLog(tmp_path / "run-7")
    events.path.parent.mkdir()
    events.append("started", run="run-7", rounds=1)
    worker = {"name": "client1", "metrics": {"classifier-loss": 0.5}}
    fields = {"round": 1, "rounds": 1, "asked": 1, "workers": [worker], "refused": [], "seconds": 2.0}
    events.append("round", metrics={"classifier-loss": 0.5}, **fields)
    result = CliRunner().invoke(app, ["log", str(events.path.parent)])
    assert (result.exit_code, result.stderr.splitlines()[-1].strip()) == (0, "client1: classifier loss 0.5")
    pytest.importorskip("tensorboardX")
    curves = tmp_path / "curves"
    assert CliRunner().invoke(app, ["log", str(events.path.parent), "--tensorboard", str(curves)]).exit_code == 0
    [file] = (curves / "run-7").iterdir()
    assert b"classifier-loss/client1" in file.read_bytes()


def test_a_run_that_is_followed_is_written_as_curves(tmp_path):
    pytest.importorskip("tensorboardX")
    runs, curves = ScriptedRuns(), tmp_path / "curves"
    worker = {"name": "client1", "metrics": {"classifier-loss": 0.5}}
    fields = {"round": 1, "rounds": 1, "asked": 1, "workers": [worker], "refused": [], "seconds": 2.0, "metrics": {}}
    now = "2026-05-01T12:00:00+00:00"

    def play():
        while "run-1" not in runs.logs:
            time.sleep(0.02)
        runs.add("run-1", "round", time=now, **fields)
        runs.add("run-1", "finished", time=now, metrics={"accuracy": 0.75})

    Thread(target=play, daemon=True).start()
    with in_background(create_app(TrainingHost(tmp_path / "home", tmp_path, runs))) as url:
        result = CliRunner().invoke(app, ["federate", "--server", url, "--tensorboard", str(curves)])
    assert result.exit_code == 0, result.output
    [file] = (curves / "run-1").iterdir()
    for tag in (b"classifier-loss/client1", b"round/seconds", b"release-accuracy/all"):
        assert tag in file.read_bytes()


def test_a_folder_without_an_event_log_is_no_run(tmp_path):
    result = CliRunner().invoke(app, ["log", str(tmp_path)])
    assert (result.exit_code, "has no event log of a run" in result.stderr) == (1, True)


def test_a_resumed_run_takes_no_settings():
    result = CliRunner().invoke(app, ["federate", "--resume", "20260101-000000-abcd", "--labels", "0,1"])
    assert result.exit_code == 1
    assert "a resumed run keeps the plan that it was started with; leave --settings, --labels" in result.stderr


def test_an_address_of_another_form_is_refused_when_a_node_is_started(tmp_path):
    result = CliRunner().invoke(
        app, ["serve", "--role", "worker", "--superlink", "9092", "--home", str(tmp_path / "a")]
    )
    assert isinstance(result.exception, ValueError)
    assert "it is host:port with a port from 1 to 65535" in str(result.exception)
    assert not (tmp_path / "a").exists()
