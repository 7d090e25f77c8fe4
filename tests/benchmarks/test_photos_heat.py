"""The area under the overlap of defects, by hand."""

import numpy as np
import pytest

from benchmarks.photos_heat import aupro, figures_of_heat

MASKS = np.zeros((1, 20, 20), bool)
MASKS[0, 2:6, 2:6] = MASKS[0, 12:16, 12:16] = True


def test_heat_on_the_defects_alone_has_the_whole_area():
    assert aupro(MASKS.astype(np.float32), MASKS) == pytest.approx(1.0, abs=0.01)


def test_each_defect_counts_alike_and_one_that_is_missed_counts_nothing():
    heat = MASKS.astype(np.float32)
    heat[0, 12:16, 12:16] = -1
    assert aupro(heat, MASKS) == pytest.approx(0.5, abs=0.01)


def test_heat_by_chance_has_the_area_below_the_diagonal():
    heat = np.random.default_rng(0).random((60, 20, 20)).astype(np.float32)
    assert aupro(heat, np.repeat(MASKS, 60, 0)) == pytest.approx(0.15, abs=0.02)


def test_all_heat_inside_the_mask_is_its_share_of_the_area_over_chance_and_no_heat_is_none():
    heat = MASKS.astype(np.float32)
    expected = np.mean([1 / mask.mean() for mask in MASKS])
    assert figures_of_heat(heat, MASKS)["over_chance"] == pytest.approx(expected, abs=0.01)
    assert figures_of_heat(0 * heat, MASKS)["over_chance"] == 0
