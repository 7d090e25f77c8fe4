import json

import pytest

from benchmarks.fault_harness import Row
from benchmarks.fault_list import FAULTS
from benchmarks.faults import FaultsBench, measure
from fedlmd.progress import Progress, drain


def test_a_fault_that_nobody_knows_is_named():
    with pytest.raises(ValueError, match="there is no fault 'rain'; there are none, worker-killed, "):
        FaultsBench(("nan", "rain"))
    assert [fault.name for fault in FaultsBench(("nan",)).chosen] == ["none", "nan"]
    assert len(FaultsBench().chosen) == len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_figures_count_what_was_injected_survived_hung_and_resumed(tmp_path):
    rows = [
        Row("none", "none", "it ends", round_seconds=4.5),
        Row("nan", "NaN", "refused", seconds=2.0),
        Row("scale", "scale", problems=["the weights are wrong"], seconds=3.0, rounds_lost=2),
        Row("run-killed", "killed", "resumed", by_hand=True, seconds=10.0, rounds_lost=1),
        Row("link-killed", "link", hang=True, problems=["it did not come"]),
        Row("disk-full", "disk", skipped="no rights"),
    ]
    for row in rows:
        (tmp_path / f"{row.fault}.json").write_text(json.dumps(row.to_json()))
    steps = []
    result = drain(measure(FaultsBench(tuple(row.fault for row in rows)), tmp_path), steps.append)
    assert all(isinstance(step, Progress) for step in steps)
    assert result["figures"] == {
        "faults_injected": 4,
        "faults_not_survived": 2,
        "hangs": 1,
        "faults_resumed_by_hand": 1,
        "most_rounds_lost": 2,
        "usual_round_seconds": 4.5,
        "median_seconds_to_go_on": 2.5,
    }
    assert result["command"] == "python -m benchmarks faults"
    assert {row["fault"]: row["survived"] for row in result["faults"]} == {
        "none": True,
        "nan": True,
        "run-killed": True,
        "scale": False,
        "link-killed": False,
        "disk-full": False,
    }
