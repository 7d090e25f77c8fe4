import json

import numpy as np
import pytest

from fedlmd.federation.config import FederationConfig
from fedlmd.federation.plan import Plan, PlanError, read_plan, write_plan

FEDERATION = {
    "rounds": 3,
    "strategy": "fedprox",
    "mu": 0.01,
    "weighting": "uniform",
    "server_ema": 0.5,
    "min_workers": 3,
    "min_replies": 2,
    "wait_seconds": 60,
    "round_timeout": 600,
    "max_failed_rounds": 2,
    "max_norm_ratio": 4.5,
    "compression": "8-bit",
}
ENTRIES = {
    "run": "r",
    "releases_dir": "/srv/releases",
    "settings": {"seed": 1, "labels": ["0"], "federation": FEDERATION},
    "local_layers": ["up.", "head."],
}


def test_a_plan_survives_its_file(tmp_path):
    plan = Plan.from_json(ENTRIES)
    write_plan(tmp_path / "run", plan, {"w": np.arange(3, dtype=np.float32)})
    again, weights = read_plan(tmp_path / "run")
    assert again == plan
    assert again.local_layers == ("up.", "head.")
    np.testing.assert_array_equal(weights["w"], [0, 1, 2])
    assert json.loads((tmp_path / "run" / "plan.json").read_text()) == ENTRIES


def test_how_the_workers_train_together_is_a_section_of_the_settings():
    assert Plan.from_json(ENTRIES).federation == FederationConfig(**FEDERATION)
    assert Plan("r", "x").federation == FederationConfig()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rouns": 3}, "unknown entry 'rouns'; known are run, releases_dir, settings, local_layers"),
        ({"settings": {"federation": {"rouns": 3}}}, "cannot be carried out: .*unexpected keyword argument 'rouns'"),
        ({"settings": {"federation": {"rounds": 0}}}, "cannot be carried out: rounds is 0; it is 1 or more"),
        ({"settings": {"federation": {"rounds": "3"}}}, "cannot be carried out"),
        ({"settings": {"federation": {"strategy": "median"}}}, "min_replies is 1; median needs 3 updates"),
        ({"settings": None}, "the plan does not fit"),
        ({"local_layers": 3}, "the plan does not fit"),
    ],
)
def test_an_impossible_plan_is_refused_with_the_reason(change, words):
    with pytest.raises(PlanError, match=words):
        Plan.from_json({**ENTRIES, **change})


def test_a_missing_entry_is_named():
    with pytest.raises(PlanError, match="releases_dir"):
        Plan.from_json({"run": "r"})


def test_a_folder_without_a_plan_is_named(tmp_path):
    with pytest.raises(PlanError, match=str(tmp_path)):
        read_plan(tmp_path)


def test_weights_that_are_no_safetensors_are_named(tmp_path):
    write_plan(tmp_path, Plan("r", "x"), {"w": np.zeros(1)})
    (tmp_path / "initial.safetensors").write_bytes(b"not weights")
    with pytest.raises(PlanError, match="is not the folder of a run"):
        read_plan(tmp_path)
