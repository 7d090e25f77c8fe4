"""``fedlmd simulate`` prints a run's events as sentences, and JSON alone on standard output."""

import json

import pytest
from typer.testing import CliRunner

import fedlmd.simulation.launch
from fedlmd.cli import app

METRICS = {"accuracy": 0.9, "loss": float("nan"), "images": 40, "workers": {}}
EVENTS = [
    {"time": "t", "event": "submitted", "run": "r", "rounds": 1, "workers": 2},
    {"time": "t", "event": "started", "run": "r", "rounds": 1, "pid": 3},
    {"time": "t", "event": "finished", "release": "abc", "installed": [], "metrics": METRICS},
]


@pytest.fixture
def simulated(monkeypatch, tmp_path):
    """The command with a launch that gives events; the engine itself is tested with the simulation."""

    def simulated(events, *arguments):
        monkeypatch.setattr(fedlmd.simulation.launch, "simulate", lambda *_, **__: iter(events))
        return CliRunner().invoke(app, ["simulate", "--workers", "2", "--output", str(tmp_path), *arguments])

    return simulated


def test_the_events_are_sentences_on_standard_error_and_json_is_alone_on_standard_output(simulated, tmp_path):
    result = simulated(EVENTS, "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {**EVENTS[-1], "metrics": {**METRICS, "loss": None}}
    assert result.stderr.splitlines() == [
        "submitted: run r, 1 round, 2 workers",
        "started: 1 round of training, then calibration",
        "finished: release abc, accuracy 0.9000, loss not finite on 40 images",
        f"release {tmp_path}/releases/abc",
    ]


def test_a_run_that_failed_is_an_error(simulated):
    result = simulated([*EVENTS[:2], {"event": "failed", "reason": "no [b]room[/b]", "kind": "OSError"}])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "error: the run failed: no [b]room[/b]"
    assert result.stdout == ""
