import json

import numpy as np
import pytest

from fedlmd import artifacts
from fedlmd.detection import LEVELS
from fedlmd.federation.events import EventLog
from fedlmd.networks import build
from fedlmd.node import PRETRAINED_FOLDER, NodeConfig
from fedlmd.node.runs import ServerRuns, plan_of, summarise
from fedlmd.service import Refused, RunRequest
from fedlmd.settings import Settings, SettingsError, from_mapping

FIVE = ("0", "1", "2", "3", "4")


@pytest.fixture
def runs(tmp_path):
    # No engine: what is tested here never asks Flower for anything.
    return ServerRuns(None, NodeConfig("server", "server", tmp_path, Settings(labels=FIVE)))


def test_a_runs_settings_are_put_over_the_servers(runs):
    chosen = runs.settings_of(RunRequest({"federation": {"rounds": 9}}, labels=("7", "8")))
    assert chosen.labels == ("7", "8")
    assert chosen.federation.rounds == 9
    assert chosen.denoiser == runs.config.settings.denoiser


def test_an_unknown_setting_is_refused(runs):
    with pytest.raises(SettingsError, match="roundz"):
        runs.settings_of(RunRequest({"federation": {"roundz": 9}}))


def test_the_shipped_detector_is_taken_as_it_is_and_not_trained(runs):
    chosen = runs.settings_of(RunRequest(pretrained_detector=True))
    weights = runs.first_weights(chosen, pretrained_detector=True)
    shipped = artifacts.load(PRETRAINED_FOLDER).weights
    assert chosen.denoiser.steps == 0
    fresh = build(chosen).weights()
    for name, array in weights.items():
        expected = shipped[name].astype(np.float32) if name.startswith("denoiser.") else fresh[name]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, expected)


def test_the_shipped_detector_is_refused_for_other_labels_or_shapes(runs):
    with pytest.raises(Refused, match="knows the labels 0, 1, 2, 3, 4 or 0, 1, 2, 3, 4, 5, 6, 7, 8, 9;"):
        runs.first_weights(from_mapping({"labels": ["0", "1"]}), pretrained_detector=True)
    other = from_mapping({"labels": FIVE, "models": {"denoiser": [32, 64]}})
    with pytest.raises(Refused, match="another shape"):
        runs.first_weights(other, pretrained_detector=True)


def test_a_plan_tells_the_workers_everything_but_where_their_images_are(runs, tmp_path):
    plan = plan_of("r", runs.config.settings, tmp_path)
    assert "data" not in plan.settings
    assert plan.levels == LEVELS
    assert from_mapping(json.loads(json.dumps(plan.settings))).labels == FIVE
    assert plan.card["settings"] == plan.settings


def test_a_run_is_summed_up_from_its_diary(tmp_path):
    assert summarise(tmp_path) is None
    log = EventLog(tmp_path)
    log.append("submitted", run="r", rounds=3)
    log.append("round", round=1, rounds=3)
    assert (summarise(tmp_path).state, summarise(tmp_path).round, summarise(tmp_path).rounds) == ("running", 1, 3)
    log.append("failed", reason="no worker came")
    assert (summarise(tmp_path).state, summarise(tmp_path).reason) == ("failed", "no worker came")
