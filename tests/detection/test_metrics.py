"""Separation, against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from fedlmd.detection import separation


def theirs(known, unknown):
    truth, scores = np.r_[np.zeros(len(known)), np.ones(len(unknown))], np.r_[known.numpy(), unknown.numpy()]
    false, true, _ = roc_curve(truth, scores, drop_intermediate=False)
    return roc_auc_score(truth, scores), average_precision_score(truth, scores), false[np.argmax(true >= 0.95)]


@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.5, 3.0])
@pytest.mark.parametrize("counts", [(1, 1), (7, 40), (300, 200)])
@pytest.mark.parametrize("digits", [0, 1, 6])
def test_the_figures_are_those_of_scikit_learn_ties_included(shift, counts, digits):
    generator = torch.Generator().manual_seed(0)
    known, unknown = (torch.randn(count, generator=generator) for count in counts)
    known, unknown = known.round(decimals=digits), (unknown + shift).round(decimals=digits)
    ours = separation(known, unknown)
    assert (ours.auroc, ours.aupr, ours.fpr95) == pytest.approx(theirs(known, unknown), abs=1e-12)


def test_a_perfect_detector_and_one_that_knows_nothing():
    low, high = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])
    perfect, reverse, blind = separation(low, high), separation(high, low), separation(low, low)
    assert (perfect.auroc, perfect.aupr, perfect.fpr95) == (1, 1, 0)
    assert (reverse.auroc, reverse.fpr95) == (0, 1)
    assert blind.auroc == 0.5


@pytest.mark.parametrize(
    ("known", "unknown", "message"),
    [([], [1.0], "one of them is empty"), ([1.0], [], "is empty"), ([1.0], [float("nan")], "a score is not finite")],
)
def test_what_cannot_be_judged_is_refused(known, unknown, message):
    with pytest.raises(ValueError, match=message):
        separation(torch.tensor(known), torch.tensor(unknown))
