"""Open-set classification: accepting known images, with the right class, and no unknown ones, in one figure."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def oscr(known: Float[Tensor, " n"], correct: Bool[Tensor, " n"], unknown: Float[Tensor, " m"]) -> float:
    """Open-set classification rate (Dhamija et al. 2018, section 4; OSCR), in [0, 1].

    The area under the correct-classification rate (share of known images that are accepted and rightly classified)
    against the false-positive rate (share of unknown images that are accepted), over all thresholds: an image is
    accepted when its score is no higher. That area is the chance that a random known image is rightly classified and
    scores below a random unknown one, ties counting half. It is at most the accuracy, and is the AUROC where every
    class is right.

    Args:
        known: scores of known images, higher is further from the known ones.
        correct: whether each known image's class was right.
        unknown: scores of unknown images.

    Raises:
        ValueError: when one side is empty or a score is not finite.
    """
    if not len(known) or not len(unknown):
        raise ValueError("known and unknown scores are both needed; one of them is empty")
    if not (torch.isfinite(known).all() and torch.isfinite(unknown).all()):
        raise ValueError("a score is not finite; the detector or its weights are broken")
    rising = unknown.double().sort().values
    below = torch.searchsorted(rising, known.double()).double()
    up_to = torch.searchsorted(rising, known.double(), right=True).double()
    above = 1 - (below + up_to) / (2 * len(unknown))
    return float((above * correct).mean())
