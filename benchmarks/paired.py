"""Whether one score separates better than another on the same images beyond chance."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Difference(NamedTuple):
    """By how much one AUROC exceeds another, and the standard error of that."""

    value: float
    error: float


def difference(known: Float[Tensor, "2 n"], unknown: Float[Tensor, "2 m"]) -> Difference:
    """AUROC of the first score minus that of the second on the same images (DeLong et al. 1988).

    Args:
        known: both scores of the known images, 2 or more.
        unknown: both scores of the unknown images, 2 or more.

    Raises:
        ValueError: with fewer images.
    """
    if min(known.shape[1], unknown.shape[1]) < 2:
        raise ValueError("a standard error needs at least 2 known and 2 unknown images")
    (a_known, a_unknown), (b_known, b_unknown) = (placements(k, u) for k, u in zip(known, unknown, strict=True))
    known_change, unknown_change = a_known - b_known, a_unknown - b_unknown
    variance = known_change.var() / len(known_change) + unknown_change.var() / len(unknown_change)
    return Difference(float(known_change.mean()), math.sqrt(float(variance)))


def placements(
    known: Float[Tensor, " n"], unknown: Float[Tensor, " m"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
    """The share of unknown images above each known one, and of known ones below each unknown one; ties count half.

    The mean of either is the AUROC.
    """

    def below(these: Tensor, others: Tensor) -> Tensor:
        ordered = others.sort().values
        left, right = (torch.searchsorted(ordered, these, right=right) for right in (False, True))
        return (left + right).double() / (2 * len(others))

    return 1 - below(known, unknown), below(unknown, known)
