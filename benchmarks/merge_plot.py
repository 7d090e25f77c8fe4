"""The picture of the merge benchmark: AUROC of every merge, federation by federation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.plots import CHOSEN, INK, MUTED, figure, plain, png

SCORES = {"one-step": ("auroc_one_step", CHOSEN), "LMD": ("auroc_lmd", MUTED[0])}
LEFT_OUT = ("central", "honest", "poisoned")


def merge_picture(result: Mapping[str, Any]) -> bytes:
    """AUROC of the denoiser's two scores as PNG: a panel for each federation, a line for each merge.

    Dashed lines are central training's. The axis gives errors, 1 - AUROC, on a logarithmic scale, so that both failures
    and small gaps can be read.

    Args:
        result: what ``python -m benchmarks merge`` wrote.
    """
    kinds = [name for name in result["rows"] if name not in LEFT_OUT]
    heights = [len(result["rows"][name]) for name in kinds]
    canvas = figure(8.0, 0.9 + 0.24 * sum(heights) + 0.35 * len(kinds))
    panels = canvas.subplots(len(kinds), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    central = result["rows"]["central"]["fedavg"]
    for axes, name in zip(panels, kinds, strict=True):
        rows = result["rows"][name]
        places = range(len(rows))
        for title, (key, colour) in SCORES.items():
            errors = [max(1 - row[key], 1e-3) for row in rows.values()]
            axes.plot(errors, places, "o", color=colour, markersize=6, label=title)
            axes.axvline(max(1 - central[key], 1e-3), color=colour, linewidth=1, linestyle="--")
        axes.set_yticks(list(places), [result["methods"][method]["title"] for method in rows])
        axes.set(ylim=(len(rows) - 0.4, -0.6), xscale="log")
        axes.set_title(result["federations"][name], loc="left", fontsize=10, color=INK)
        plain(axes)
    ticks = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01]
    panels[-1].set_xticks(ticks, [f"{1 - tick:.2f}" for tick in ticks])
    panels[-1].minorticks_off()
    panels[-1].invert_xaxis()
    panels[-1].set_xlabel("AUROC of the unseen digits 5-9 (dashed: trained at one worker)", color=INK)
    handles, names = panels[0].get_legend_handles_labels()
    canvas.legend(handles, names, loc="outside upper right", ncols=2, frameon=False, fontsize=9, labelcolor=INK)
    return png(canvas)
