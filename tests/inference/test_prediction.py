import json

import pytest

from fedlmd.inference.prediction import Prediction, as_number


@pytest.mark.parametrize(("label", "number"), [("7", 7), ("0", 0), ("-3", -3), ("12", 12), ("9" * 15, 10**15 - 1)])
def test_a_whole_numbers_text_becomes_that_number(label, number):
    assert as_number(label) == number
    assert json.dumps(as_number(label)) == label


@pytest.mark.parametrize("label", ["07", "-0", "cat", "1e3", "½", "٣", "", "-", "--1", "1.0", " 7", "9" * 40])
def test_labels_that_are_no_whole_numbers_stay_text(label):
    assert as_number(label) == label


@pytest.mark.parametrize("label", ["7", "07", "-3", "cat"])
def test_the_label_of_a_prediction_is_its_text(label):
    prediction = Prediction(
        prediction=as_number(label),
        is_ood=False,
        probabilities={label: 1.0},
        score=0.5,
        threshold=None,
        p_value=0.5,
        alpha=0.05,
        detector="verdict",
        scores={"verdict": 0.5},
        release="abc",
        verdict="known",
    )
    assert prediction.label == label
