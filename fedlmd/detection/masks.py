"""Masks: which part of an image stays visible while the rest is redrawn (Liu et al. 2023, section 3.2 and figure 4)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

MaskKind = Literal["center", "random", "checkerboard", "alternating-checkerboard", "whole"]


def masks(
    kind: MaskKind, count: int, size: tuple[int, int], cells: int, generator: torch.Generator
) -> Bool[Tensor, "n 1 h w"]:
    """Masks for ``count`` reconstructions; True keeps a pixel.

    Args:
        kind: "center" hides the middle square of half the side; "random" hides each cell with probability 1/2, anew
            for every reconstruction; "checkerboard" hides every second cell; "alternating-checkerboard" swaps the
            hidden cells with the visible ones from one reconstruction to the next, so that all of the image is tested;
            "whole" hides everything: starting from a noise level below 1 keeps the coarse shape (Meng et al. 2022,
            SDEdit, section 3).
        count: number of masks.
        size: height and width in pixels.
        cells: cells along each side, 2 to the smaller side.
        generator: draws the random masks.

    Raises:
        ValueError: on an impossible number of cells.
    """
    height, width = size
    if not 2 <= cells <= min(size):
        raise ValueError(f"{cells} mask cells along a side; an image of {height}x{width} takes 2 to {min(size)}")
    rows = torch.arange(height) * cells // height
    columns = torch.arange(width) * cells // width
    if kind == "center":
        keep = torch.ones(count, height, width, dtype=torch.bool)
        keep[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    elif kind == "whole":
        keep = torch.zeros(count, height, width, dtype=torch.bool)
    elif kind == "random":
        grid = torch.rand(count, cells, cells, generator=generator) < 0.5
        keep = grid[:, rows[:, None], columns[None, :]]
    else:
        board = (rows[:, None] + columns[None, :]) % 2 == 0
        swap = (torch.arange(count) % 2 == 1) & (kind == "alternating-checkerboard")
        keep = board[None] ^ swap[:, None, None]
    return keep[:, None]
