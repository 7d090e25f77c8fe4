"""Masks by value."""

import pytest
import torch

from fedlmd.detection.masks import masks


def made(kind, count=1, size=(28, 28), cells=7, seed=0):
    return masks(kind, count, size, cells, torch.Generator().manual_seed(seed))


def picture(mask):
    return ["".join("#" if kept else "." for kept in row) for row in mask[0].tolist()]


def test_the_checkerboard_hides_every_second_cell():
    assert picture(made("checkerboard", size=(4, 6), cells=2)[0]) == ["###...", "###...", "...###", "...###"]


def test_cells_that_do_not_divide_the_size_differ_by_a_pixel_at_most():
    assert picture(made("checkerboard", size=(5, 5), cells=3)[0]) == ["##..#", "##..#", "..##.", "..##.", "##..#"]


def test_the_alternating_checkerboard_swaps_so_that_two_in_a_row_test_every_pixel():
    board = made("checkerboard", 3)
    alternating = made("alternating-checkerboard", 3)
    assert torch.equal(alternating[0], board[0])
    assert torch.equal(alternating[1], ~board[0])
    assert torch.equal(alternating[2], board[0])
    assert torch.equal(board[1], board[0])


def test_the_middle_square_has_half_the_side():
    assert picture(made("center", size=(8, 4), cells=2)[0]) == ["####"] * 2 + ["#..#"] * 4 + ["####"] * 2
    assert (~made("center", 2)).sum((1, 2, 3)).tolist() == [14 * 14] * 2


def test_the_whole_mask_keeps_nothing():
    hidden = made("whole", 2, (5, 4), 2)
    assert hidden.shape == (2, 1, 5, 4)
    assert not hidden.any()


def test_random_masks_hide_whole_cells_half_of_them_and_anew_each_time():
    drawn = made("random", 200, (16, 16), 4)
    cells = drawn.reshape(200, 4, 4, 4, 4).permute(0, 1, 3, 2, 4).flatten(3)
    assert (cells.all(3) ^ (~cells).all(3)).all()
    assert drawn.float().mean().item() == pytest.approx(0.5, abs=0.04)  # 4 standard deviations of 3,200 coins
    assert not torch.equal(drawn[0], drawn[1])


def test_the_generator_decides_the_random_masks():
    assert torch.equal(made("random", 3, seed=1), made("random", 3, seed=1))
    assert not torch.equal(made("random", 3, seed=1), made("random", 3, seed=2))


@pytest.mark.parametrize("kind", ["center", "random", "checkerboard", "alternating-checkerboard"])
def test_every_kind_gives_boolean_masks_of_one_channel_that_hide_something_and_keep_something(kind):
    made_masks = made(kind, 6, (28, 32), 5)
    assert made_masks.shape == (6, 1, 28, 32)
    assert made_masks.dtype == torch.bool
    assert made_masks.any((1, 2, 3)).all()
    assert not made_masks.all(3).all(2).any()


@pytest.mark.parametrize("cells", [1, 29])
def test_an_impossible_number_of_cells_is_refused_with_what_is_possible(cells):
    with pytest.raises(ValueError, match=f"{cells} mask cells .* 28x30 takes 2 to 28"):
        made("checkerboard", size=(28, 30), cells=cells)
