import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.markdown import federations_table, words_table
from benchmarks.plots import rates_picture
from benchmarks.pool import Pool
from benchmarks.verdict import (
    HEADLINE,
    VerdictBench,
    calibration_bytes,
    command_of,
    measure,
    selective_figures,
    sums_bytes,
)
from fedlmd.progress import Progress, drain

SAMPLE = 700
"""The least number of known images that divides among the drawn workers."""


def letters(folder, rng):
    """A data set of another kind, as an .npz file with its own test split."""
    images = rng.integers(0, 256, (200, 28, 28), dtype=np.uint8)
    labels = np.arange(200) % 5
    np.savez(folder / "other.npz", x_train=images[:10], y_train=labels[:10], x_test=images, y_test=labels)
    return folder / "other.npz"


@pytest.fixture(scope="module")
def measured(small_release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("verdict")
    data = letters(folder, np.random.default_rng(0))
    config = VerdictBench(small_release, {"usps": data, "fashion": data}, 2, sample=SAMPLE, patched=3, stream=500)
    steps = []
    result = drain(measure(config, folder), steps.append)
    return config, folder, steps, result


def test_a_measurement_says_where_it_is_and_ends_with_a_result_that_json_and_the_tables_take(measured):
    _, _, steps, result = measured
    assert all(isinstance(step, Progress) for step in steps)
    assert {step.stage for step in steps} >= {
        "scoring known",
        "scoring usps",
        "iid",
        "label_skew",
        "dirichlet",
        "shift",
    }
    again = json.loads(json.dumps(result))
    assert set(again["federations"]) == {"iid", "label_skew", "dirichlet", "shift"}
    figures = again["figures"]
    for name in ("iid", "label_skew", "shift_pooled", "shift_shrunk"):
        assert 0 <= figures[f"sites_outside_{name}"] <= 5
    assert figures["heat_in_patch_over_chance"] >= 0
    assert figures["false_drift_alarms_per_10000"] >= 0
    assert figures["drift_seeds"] == 2
    assert 0 <= figures["oscr"] <= figures["accuracy"]
    assert "| alike, with 400 to 20 calibration images |" in federations_table({"trust": again})
    assert "| the last one sees USPS | Fashion-MNIST |" in words_table({"trust": again})


def test_the_result_can_be_drawn(measured):
    pytest.importorskip("matplotlib")
    assert rates_picture(measured[3]["federations"], HEADLINE).startswith(b"\x89PNG")


def test_a_measurement_that_goes_on_scores_nothing_again_and_comes_to_the_same(measured):
    config, folder, _, result = measured
    steps = []
    again = drain(measure(config, folder), steps.append)
    assert not [step for step in steps if step.stage.startswith("scoring")]
    assert again["federations"] == result["federations"]


def test_the_three_verdicts_share_out_all_images(measured):
    for of in measured[3]["federations"].values():
        for shares in of["verdicts"].values():
            assert shares["known"] + shares["uncertain"] + shares["unknown"] == pytest.approx(1)


def test_without_other_data_sets_the_rest_is_measured_and_it_says_so(measured):
    config, folder, _, _ = measured
    result = drain(measure(VerdictBench(config.release, seeds=1, sample=SAMPLE, patched=2, stream=500), folder))
    assert set(result["federations"]) == {"iid", "label_skew", "dirichlet"}
    assert [note.split()[0] for note in result["notes"]] == ["usps", "fashion"]


def test_calibration_takes_a_few_kilobytes_whatever_the_number_of_images(predictor):
    # Six sketches of 191 numbers of eight bytes, and what names and counts take beside them.
    assert 6 * 191 * 8 < calibration_bytes(predictor) < 6 * 191 * 8 + 1000
    # Of five classes a count, the sums of 4 x 8 features and of their products, in four bytes each.
    assert sums_bytes(predictor) == 5 * (1 + 32 + 32 * 33 // 2) * 4


def test_accuracy_at_a_coverage_by_hand():
    known = Pool(np.arange(10.0), np.eye(10)[:, :5] * -1, np.array([0, 1, 2, 3, 4, 1, 0, 0, 0, 0]))
    figures = selective_figures({"known": known, "unknown": Pool(np.full(5, 6.5), np.zeros((5, 5)), np.zeros(5, int))})
    # The first five are right, the sixth is wrong; of the rest, all of whose losses are alike, label 0 is guessed.
    assert figures["accuracy"] == 0.9
    assert figures["accuracy_at_0.8"] == pytest.approx(8 / 9)
    # Scores up to 8 are accepted: 9 known ones and all unknown ones, 8 known of them rightly.
    assert figures["selective_accuracy_at_0.8"] == pytest.approx(0.8 / 1.9)


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="no use for a data set 'cifar'; there is for usps"):
        VerdictBench(data={"cifar": Path("x")})
    with pytest.raises(ValueError, match="seeds is 0"):
        VerdictBench(seeds=0)


def test_the_command_is_told_without_places_of_files():
    config = VerdictBench(data={"usps": Path("/secret/x.npz")}, seeds=3, sample=9)
    assert command_of(config) == "python -m benchmarks verdict --data usps=FILE --seeds 3 --images 9"
