import statistics

import pytest
import torch

from benchmarks.results import PREDICTION, described, figures_of, lines, mean_and_std
from benchmarks.scores import Scores
from benchmarks.tasks import TASKS
from fedlmd.data import LabelledImages
from fedlmd.detection import separation
from fedlmd.release import VERDICT

BY_NAME = {task.name: task for task in TASKS}


def measured(auroc, **verdict):
    """A task as the result has it, two detectors on 100 images of each kind and one on 20."""
    cost = {"aupr": 0.5, "fpr95": 0.5, "nfe": 3.0, "gflop": 0.4, "ms": 2.0, "known": 100, "unknown": 100}
    detectors = {
        "max-logit": {"auroc": auroc - 0.1, **cost},
        VERDICT: {"auroc": auroc, **cost},
        "lmd": {"auroc": auroc - 0.05, **cost, "nfe": 48.0, "known": 20, "unknown": 20},
    }
    summary = {"accuracy": 0.99, "oscr": 0.9, "false_alarm_rate": 0.05, "detection_rate": 0.8}
    return {"title": "t", "release": "r", "verdict": summary | verdict, "detectors": detectors}


@pytest.fixture(scope="module")
def images():
    """Four known images of which the third's class is the second, and two of other kinds."""
    pixels = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    known = LabelledImages(pixels, torch.tensor([0, 1, 1, 2]), tuple("012"))
    return known, LabelledImages(pixels[:2], torch.tensor([0, 1]), tuple("89"))


def test_a_task_is_described_by_its_scores(predictor, images):
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    known, unknown = threshold + torch.tensor([-3.0, -2.0, -1.0, 1.0]), threshold + torch.tensor([-1.5, 2.0])
    found = {
        PREDICTION: Scores(torch.tensor([0.0, 1.0, 2.0, 2.0]), torch.tensor([1.0, 1.0]), 1.0, 0.0, 0.0),
        VERDICT: Scores(known, unknown, 1.2, 0.4, 3.0),
    }
    summary = described(BY_NAME["01234"], predictor, found, *images)
    assert summary["verdict"] == {
        "alpha": predictor.alpha,
        "accuracy": 0.75,
        "false_alarm_rate": 0.25,
        "detection_rate": 0.5,
        # The first two lie below both unknown images, the last below the second; the third's class is wrong.
        "oscr": pytest.approx((1 + 1 + 0.5) / 4),
    }
    row = summary["detectors"][VERDICT]
    assert set(summary["detectors"]) == {VERDICT}
    assert row["auroc"] == separation(known, unknown).auroc
    assert (row["ms"], row["nfe"], row["gflop"]) == (pytest.approx(200.0), 3.0, 0.4)


def test_known_digits_in_another_hand_have_no_separation(predictor, images):
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    found = {
        PREDICTION: Scores(torch.tensor([0.0, 1.0, 1.0, 2.0]), torch.tensor([0.0, 0.0]), 1.0, 0.0, 0.0),
        VERDICT: Scores(threshold - torch.ones(4), threshold + torch.tensor([-1.0, 1.0]), 1.0, 0.4, 3.0),
    }
    summary = described(BY_NAME["usps"], predictor, found, *images)
    assert summary["verdict"]["called_unknown"] == summary["verdict"]["accuracy_elsewhere"] == 0.5
    assert "oscr" not in summary["verdict"]
    assert "auroc" not in summary["detectors"][VERDICT]


def test_the_figures_are_the_means_over_the_splits():
    values = [0.9, 0.92, 0.94, 0.96, 0.98]
    results = {f"mnist64-{i}": measured(value) for i, value in enumerate(values)} | {"0123-459": measured(0.97)}
    results["usps"] = {"detectors": {}, "verdict": {"called_unknown": 0.2, "accuracy_elsewhere": 0.7}}
    figures = figures_of(results)
    assert figures["auroc_mnist64"] == pytest.approx(0.94)
    assert figures["auroc_mnist64_std"] == pytest.approx(statistics.stdev(values))
    assert figures["auroc_mnist64_lmd"] == pytest.approx(0.89)
    assert figures["auroc_0123_459"] == 0.97
    assert figures["oscr_mnist64"] == 0.9
    assert (figures["called_unknown_usps"], figures["accuracy_usps"]) == (0.2, 0.7)
    assert not [name for name in figures if "fashion" in name or "01234" in name]


def test_one_value_has_a_mean_and_no_standard_deviation():
    assert mean_and_std("a", [0.5]) == {"a": 0.5}
    assert mean_and_std("a", []) == {}


def test_lines_put_the_verdict_first_and_the_best_baseline_next():
    results = {"mnist64-0": measured(0.8), "mnist64-1": measured(0.9), "fashion": measured(0.99)}
    del results["fashion"]["detectors"]["lmd"]
    found = lines(results)
    assert [line.name for line in found] == [VERDICT, "max-logit", "lmd"]
    assert found[0].auroc == {"6 digits against 4": pytest.approx(0.85), "Fashion-MNIST": 0.99}
    assert found[2].auroc == {"6 digits against 4": pytest.approx(0.80)}
    assert [line.images for line in found] == [None, None, 20]
