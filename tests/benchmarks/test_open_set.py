import pytest
import torch

from benchmarks.open_set import oscr
from fedlmd.detection import separation


def test_the_rate_is_the_area_under_a_curve_drawn_by_hand():
    # Thresholds 0, 1, 2, 3 accept: a right known image; an unknown one; a wrong known one; a right known and the other
    # unknown one together. The curve runs (0, 0) (0, 1/3) (1/2, 1/3) (1/2, 1/3) (1, 2/3).
    known, right, unknown = torch.tensor([0.0, 2.0, 3.0]), torch.tensor([True, False, True]), torch.tensor([1.0, 3.0])
    assert oscr(known, right, unknown) == pytest.approx(1 / 2 * 1 / 3 + 1 / 2 * (1 / 3 + 2 / 3) / 2)


def test_it_equals_the_area_over_all_thresholds():
    generator = torch.Generator().manual_seed(0)
    # Whole numbers, so that many are tied.
    known = torch.randint(0, 20, (200,), generator=generator).float()
    unknown = torch.randint(5, 30, (150,), generator=generator).float()
    right = torch.rand(200, generator=generator) < 0.9
    thresholds = torch.arange(-1, 31)[:, None]
    correct = ((known <= thresholds) & right).float().mean(1)
    false = (unknown <= thresholds).float().mean(1)
    assert oscr(known, right, unknown) == pytest.approx(float(torch.trapezoid(correct, false)), abs=1e-6)


def test_with_every_class_right_it_is_the_auroc_and_with_none_it_is_0():
    known, unknown = torch.tensor([0.0, 1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 5.0])
    assert oscr(known, torch.ones(4, dtype=torch.bool), unknown) == pytest.approx(separation(known, unknown).auroc)
    assert oscr(known, torch.zeros(4, dtype=torch.bool), unknown) == 0


def test_a_perfect_detector_leaves_the_accuracy():
    assert oscr(torch.zeros(4), torch.tensor([True, True, True, False]), torch.ones(3)) == pytest.approx(0.75)


def test_empty_and_broken_scores_are_refused():
    with pytest.raises(ValueError, match="one of them is empty"):
        oscr(torch.zeros(0), torch.zeros(0, dtype=torch.bool), torch.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        oscr(torch.zeros(1), torch.ones(1, dtype=torch.bool), torch.tensor([float("nan")]))
