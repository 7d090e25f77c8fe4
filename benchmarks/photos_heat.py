"""Heat-maps against the masks of the defects of magnetic tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected
from sklearn.metrics import roc_auc_score

from fedlmd.data import decode_image, to_unit_range
from fedlmd.inference import Predictor

DEFECTS = ("Blowhole", "Break", "Crack", "Fray", "Uneven")
UNKNOWN = ("Crack", "Fray")
"""All kinds of defects, and those that the task leaves unknown."""

EACH = 40
"""Tiles of each kind that are measured at most."""

FPR = 0.3
"""AUPRO is integrated up to this false-positive rate, as MVTec AD's evaluation does (Bergmann et al. 2021)."""


def heat_figures(predictor: Predictor, folder: Path) -> dict[str, float]:
    """How well heat lies on defects, of all kinds and, under names that begin with "unknown_", of unknown kinds alone.

    Returns:
        "over_chance": the mean over tiles of the share of heat inside the mask over the mask's share of the area;
        "pixel_auroc" over the pixels of all tiles; "aupro" up to a false-positive rate of 0.3, in [0, 1].
    """
    heats, masks, kinds = [], [], []
    for kind in DEFECTS:
        for file in sorted((folder / kind).glob("*.jpg"))[:EACH]:
            rules = predictor.settings.pixel_rules
            image = to_unit_range(decode_image(file.read_bytes(), rules))
            grey = decode_image(file.with_suffix(".png").read_bytes(), rules)[0]
            mask = grey.numpy() > 127
            if mask.any():
                heats.append(predictor.explain(image[None]).heat.numpy())
                masks.append(mask)
                kinds.append(kind)
    heat, inside, chosen = np.stack(heats), np.stack(masks), np.isin(kinds, UNKNOWN)
    unknown = figures_of_heat(heat[chosen], inside[chosen])
    return figures_of_heat(heat, inside) | {f"unknown_{name}": figure for name, figure in unknown.items()}


def figures_of_heat(heat: NDArray[np.float32], inside: NDArray[np.bool_]) -> dict[str, float]:
    """The figures of heat-maps (N, H, W) and of the masks of the defects; see ``heat_figures``."""
    # A map without heat has none inside the mask.
    over = [h[m].sum() / max(h.sum(), 1e-12) / m.mean() for h, m in zip(heat, inside, strict=True)]
    return {
        "tiles": len(heat),
        "over_chance": round(float(np.mean(over)), 2),
        "pixel_auroc": round(float(roc_auc_score(inside.ravel(), heat.ravel())), 4),
        "aupro": round(aupro(heat, inside), 4),
    }


def aupro(heat: NDArray[np.float32], masks: NDArray[np.bool_], points: int = 200) -> float:
    """Area under the mean overlap of each connected defect against the false-positive rate, up to ``FPR``."""
    regions = []
    for each, mask in zip(heat, masks, strict=True):
        numbered = connected(mask)  # type: ignore[no-untyped-call]
        regions += [each[numbered == number] for number in range(1, numbered.max() + 1)]
    sound = np.sort(heat[~masks])
    rates = np.linspace(0, FPR, points)
    thresholds = sound[np.minimum(len(sound) - 1, (len(sound) * (1 - rates)).astype(int))]
    overlaps = [float(np.mean([(region > threshold).mean() for region in regions])) for threshold in thresholds]
    return float(np.trapezoid(overlaps, rates) / FPR)
