import json

import numpy as np
import pytest

from fedlmd.federation.plan import Plan, PlanError, StrategyPlan, read_plan, write_plan

ENTRIES = {
    "run": "r",
    "rounds": 3,
    "strategy": {"name": "fedprox", "mu": 0.01, "weighting": "uniform", "server_ema": 0.5},
    "min_workers": 3,
    "min_replies": 2,
    "wait_seconds": 60,
    "round_timeout": 600,
    "max_failed_rounds": 2,
    "max_norm_ratio": 4.5,
    "compression": "8-bit",
    "settings": {"seed": 1},
    "card": {"labels": ["0"]},
    "releases-dir": "/srv/releases",
}


def test_a_plan_survives_its_file(tmp_path):
    plan = Plan.from_json(ENTRIES)
    write_plan(tmp_path / "run", plan, {"w": np.arange(3, dtype=np.float32)})
    again, weights = read_plan(tmp_path / "run")
    assert again == plan
    np.testing.assert_array_equal(weights["w"], [0, 1, 2])
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["releases-dir"] == "/srv/releases"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rouns": 3}, "unknown entry 'rouns'"),
        ({"rounds": 0}, "rounds is 0; it must be 1 or more"),
        ({"min_replies": 4}, "at most min_workers, 3"),
        ({"wait_seconds": 0}, "wait_seconds is 0"),
        ({"strategy": {"name": "fedsgd"}}, "'fedsgd' is unknown; known are fedavg, fedprox, fedadam, median"),
        ({"max_norm_ratio": 1.0}, "max_norm_ratio is 1.0; it must be above 1, or 0 to refuse no update"),
        ({"max_norm_ratio": float("inf")}, "max_norm_ratio is inf"),
        ({"strategy": {"name": "fedprox", "mu": -1}}, "mu is -1"),
        ({"strategy": {"weighting": "steps"}}, "weighting 'steps' is unknown; known are images, uniform"),
        ({"strategy": {"name": "fedadam", "server_rate": 0}}, "server_rate is 0; it must be above 0"),
        ({"strategy": {"trim": 0.5}}, "trim is 0.5; it must lie between 0 and 0.5"),
        ({"strategy": {"byzantine": -1}}, "byzantine is -1; it must be 0 or more"),
        ({"strategy": {"server_ema": 1}}, "server_ema is 1; it must be 0 or above and below 1"),
        ({"strategy": {"name": "median"}}, "min_replies is 2; median needs 3 updates: raise min_replies"),
        ({"strategy": {"name": "trimmed-mean"}}, "min_replies is 2; trimmed-mean needs 5 updates"),
        ({"strategy": {"name": "krum", "byzantine": 2}}, "min_replies is 2; krum needs 7 updates"),
        ({"strategy": {"name": "median"}, "min_replies": 3}, "median takes whole weights; compression must be none"),
        ({"strategy": {"nam": "fedprox"}}, "does not fit"),
        ({"compression": "zip"}, "compression 'zip' is unknown; none, 8-bit and 4-bit are known"),
        ({"levels": [0, 0.5]}, "levels must rise from 0 to 1"),
        ({"levels": [0, 0.5, 0.5, 1]}, "levels must rise from 0 to 1"),
    ],
)
def test_an_impossible_plan_is_refused_with_the_reason(change, words):
    with pytest.raises(PlanError, match=words):
        Plan.from_json({**ENTRIES, **change})


def test_a_missing_entry_is_named():
    with pytest.raises(PlanError, match="rounds"):
        Plan.from_json({"run": "r", "releases-dir": "x"})


def test_a_folder_without_a_plan_is_named(tmp_path):
    with pytest.raises(PlanError, match=str(tmp_path)):
        read_plan(tmp_path)


def test_weights_that_are_no_safetensors_are_named(tmp_path):
    write_plan(tmp_path, Plan("r", 1, "x", StrategyPlan()), {"w": np.zeros(1)})
    (tmp_path / "initial.safetensors").write_bytes(b"not weights")
    with pytest.raises(PlanError, match="is not the folder of a run"):
        read_plan(tmp_path)
