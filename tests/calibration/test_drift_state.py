import json
from datetime import UTC, datetime

import numpy as np
import pytest

from fedlmd.calibration.drift import DriftConfig, DriftWatch
from fedlmd.calibration.drift_state import from_json, to_json

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def watched(stream):
    watch = DriftWatch("aaaabbbbcccc", 500, NOW)
    for p in stream:
        watch.observe(p, NOW)
    return watch


def through_text(watch):
    return json.loads(json.dumps(to_json(watch), allow_nan=False))


@pytest.mark.parametrize("images", [0, 40, 400])
def test_a_watch_goes_on_from_its_json_as_if_it_had_not_been_away(images):
    stream = np.random.default_rng(0).random(500) ** 2
    before = watched(stream[:images])
    after = from_json(through_text(before), DriftConfig())
    assert after.report() == before.report()
    for p in stream[images:]:
        assert before.observe(p, NOW) == after.observe(p, NOW)
    assert after.report() == before.report()
    assert through_text(after) == through_text(before)
    assert before.report().state == "drifting"


GOOD = through_text(watched([0.002] * 20))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "format 1"),
        ({"config": {}}, "other settings"),
        ({"release": ...}, "'release' is missing"),
        ({"count": 0}, "calibration of 0 images"),
        ({"count": -3}, "no count"),
        ({"count": 500.5}, "no count"),
        ({"count": True}, "no count"),
        ({"cells": [1, 2]}, "4 numbers"),
        ({"cells": [1, 2, 3, -1]}, "negative"),
        ({"cells": [1.5, 2, 3, 4]}, "4 numbers"),
        ({"evidence": ["1"] * 12}, "12 numbers"),
        ({"evidence": [float("nan")] * 12}, "not finite"),
        ({"evidence": [float("inf")] * 12}, "not finite"),
        ({"evidence": None}, "12 numbers"),
        ({"peak": [[1], [2, 3]]}, "inhomogeneous"),
        ({"started": "yesterday"}, "yesterday"),
        ({"started": "2026-05-01T12:00:00"}, "without a zone"),
        ({"alarm": 7}, "not what it must be"),
        ({"alarm": {"image": 7}}, "'since' is missing"),
        ({"alarms": None}, "no count"),
        ({"repeats": 7}, "not what it must be"),
        ({"repeats": {}}, "'images' is missing"),
        ({"repeats": {"images": -1, "in_a_row": 0}}, "no count"),
        ({"repeats": {"images": 1, "in_a_row": 1, "recent": 5}}, "not what it must be"),
        ({"repeats": {"images": 1, "in_a_row": 1, "recent": ["x"]}}, "no count"),
        ({"repeats": {"images": 1, "in_a_row": 1, "recent": [], "alarm": {}}}, "'image' is missing"),
    ],
)
def test_damaged_json_is_refused_with_a_reason(change, says):
    damaged = {name: value for name, value in {**GOOD, **change}.items() if value is not ...}
    with pytest.raises(ValueError, match=says):
        from_json(damaged, DriftConfig())


@pytest.mark.parametrize("data", [None, [], "drift", 1, {}])
def test_what_is_no_watch_at_all_is_refused(data):
    with pytest.raises(ValueError, match="no drift watch"):
        from_json(data, DriftConfig())


def test_another_test_does_not_go_on_with_this_ones_evidence():
    with pytest.raises(ValueError, match="other settings"):
        from_json(GOOD, DriftConfig(run_length=1e5))
