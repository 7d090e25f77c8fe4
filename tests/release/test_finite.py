import json
import math

import numpy as np

from fedlmd.release import finite, load_release, save_release


def test_numbers_that_are_not_finite_become_null_at_every_depth():
    value = {"a": [1.5, math.nan, (math.inf, 2)], "b": {"c": -math.inf, "d": "nan"}, "e": np.float64("nan"), "f": True}
    expected = {"a": [1.5, None, [None, 2]], "b": {"c": None, "d": "nan"}, "e": None, "f": True}
    assert finite(value) == expected
    assert json.loads(json.dumps(finite(value), allow_nan=False)) == expected


def test_a_card_with_what_json_or_utf_8_cannot_hold_can_be_loaded(tmp_path):
    card = {"source": "b\udcff", "metrics": {"accuracy": 0.5, "loss": math.inf}}
    folder = save_release(tmp_path, card, {"classifier.a": np.zeros(2, np.float32)})
    assert "Infinity" not in (folder / "card.json").read_text()
    assert load_release(folder).card["source"] == "b\udcff"
    assert load_release(folder).card["metrics"] == {"accuracy": 0.5, "loss": None}
