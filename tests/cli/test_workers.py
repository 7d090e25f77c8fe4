import json
from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.cli.workers import labels_of, state_of
from fedlmd.service.app import create_app
from fedlmd.service.server import in_background
from tests.service.test_workers import GONE, LISTED, REFUSED
from tests.service.training_host import ScriptedRuns, TrainingHost

NOW = datetime(2026, 11, 27, 20, 0, 50, tzinfo=UTC)


@pytest.fixture
def host(tmp_path):
    return TrainingHost(tmp_path / "home", tmp_path, ScriptedRuns())


def test_workers_are_listed_with_state_labels_work_and_the_reason_of_a_refusal(host):
    host.listed = [LISTED, GONE, {**REFUSED, "name": "[bold]\x1b[31mward[/]"}]
    with in_background(create_app(host)) as url:
        result = CliRunner().invoke(app, ["workers", url, "--json", "-"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["workers"][1]["name"] == "ward-8"
    for words in ("ward-7", "connected", "cat 3", "classifier 3/10", "its clock is 400 s behind", "refused"):
        assert words in result.stderr
    assert "[bold]\\x1b[31mward[/]" in result.stderr
    assert "1 connected of 3 within the last hour" in result.stderr


def test_a_server_without_workers_says_so(host):
    with in_background(create_app(host)) as url:
        result = CliRunner().invoke(app, ["workers", url])
    assert (result.exit_code, result.stdout) == (0, "0 connected of 0 within the last hour\n")


@pytest.mark.parametrize(
    ("worker", "state"),
    [
        (LISTED, "connected"),
        ({**LISTED, "problem": "no data"}, "no usable images"),
        (REFUSED, "refused"),
        (GONE, "last seen 50 s ago"),
        ({**GONE, "last_seen": "2026-11-27T19:30:50Z"}, "last seen 30 min ago"),
    ],
)
def test_the_state_of_a_worker_is_said_in_a_few_words(worker, state):
    assert state_of(worker, NOW) == state


def test_labels_are_shown_as_far_as_they_are_announced():
    assert labels_of(None) == "not announced"
    assert labels_of(["cat", "dog"]) == "cat, dog"
    assert labels_of({str(number): 1000 for number in range(14)}).endswith("11 1,000 and 2 more")
