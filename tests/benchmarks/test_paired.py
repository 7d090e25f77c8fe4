import pytest
import torch

from benchmarks.paired import difference, placements
from fedlmd.detection import separation


def test_placements_by_hand():
    known, unknown = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 3.0, 4.0])
    # Above 1 lie all three; above 3 lies one, and one is a tie.
    of_known, of_unknown = placements(known, unknown)
    assert of_known.tolist() == [1.0, 0.5]
    assert of_unknown.tolist() == pytest.approx([0.5, 0.75, 1.0])


def test_the_error_by_hand():
    known = torch.tensor([[1.0, 3.0], [1.0, 1.5]])
    unknown = torch.tensor([[2.0, 3.0, 4.0], [2.0, 3.0, 4.0]])
    # Placements differ by 0 and -0.5 at the known images, by -0.5, -0.25 and 0 at the unknown ones.
    found = difference(known, unknown)
    assert found.value == pytest.approx(-0.25)
    assert found.error == pytest.approx((0.125 / 2 + 0.0625 / 3) ** 0.5)


def test_the_value_is_the_difference_of_the_areas():
    generator = torch.Generator().manual_seed(0)
    known, unknown = torch.randn(2, 40, generator=generator).round(decimals=1), torch.randn(2, 50, generator=generator)
    areas = [separation(*of).auroc for of in zip(known, unknown, strict=True)]
    assert difference(known, unknown).value == pytest.approx(areas[0] - areas[1])


def test_a_score_does_not_differ_from_itself():
    scores = torch.arange(5.0).expand(2, 5)
    assert difference(scores, scores + 2) == (0.0, 0.0)


def test_equally_good_scores_differ_by_two_errors_in_one_of_twenty_draws():
    generator = torch.Generator().manual_seed(1)
    draws, outside = 1000, 0
    for _ in range(draws):
        # Half of the noise is common to both scores, as it is of two detectors that see the same images.
        known, unknown = (torch.randn(3, 80, generator=generator) for _ in range(2))
        found = difference(known[:2] + known[2], unknown[:2] + unknown[2] + 1.5)
        outside += abs(found.value) > 1.96 * found.error
    # 99.9% of sound rates lie within 0.05 ± 0.023; the normal approximation costs a little.
    assert 0.025 < outside / draws < 0.075


def test_one_image_has_no_error():
    with pytest.raises(ValueError, match="at least 2 known and 2 unknown"):
        difference(torch.zeros(2, 1), torch.zeros(2, 5))
