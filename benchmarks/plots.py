"""Pictures of the benchmarks: ROC curves of a task, AUROC against cost, false alarms at the workers of federations."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import cycle
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from fedlmd.detection import separation
from fedlmd.release import VERDICT

INK, QUIET, FAINT, CHOSEN = "#2b2f36", "#9aa1ab", "#c9cdd3", "#c8553d"
MUTED = ("#4f6d8f", "#7a9e7e", "#b08ea2", "#8c8c8c", "#c2a25a", "#5f9ea0", "#9c7a5b")
DASHES = ("-", "--", ":", "-.")
DPI = 160


class PlotError(ValueError):
    """Pictures cannot be made here."""


def check_matplotlib() -> None:
    """Refuse to draw without matplotlib: before a measurement that takes hours. Raises PlotError."""
    figure(1.0, 1.0)


def figure(width: float, height: float) -> Any:  # noqa: ANN401 - the extra may be missing, and with it its types
    """An empty figure with its canvas, sides in inches.

    Raises:
        PlotError: without matplotlib, with the remedy.
    """
    try:
        made = import_module("matplotlib.figure").Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(made)
    except ImportError:
        raise PlotError("pictures need matplotlib: pip install 'fedlmd[bench]'") from None
    return made


def roc(known: Float[Tensor, " n"], unknown: Float[Tensor, " m"]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False-positive and true-positive rates, rising from (0, 0) to (1, 1), one point per distinct score."""
    negatives, positives = known.double().numpy(), unknown.double().numpy()
    thresholds = np.unique(np.concatenate([negatives, positives]))
    rates = [1 - np.searchsorted(np.sort(each), thresholds) / len(each) for each in (negatives, positives)]
    false, true = (np.concatenate([[0.0], rate[::-1]]) for rate in rates)
    return false, true


def roc_picture(title: str, scores: Mapping[str, tuple[Tensor, Tensor]], chosen: str = VERDICT) -> bytes:
    """ROC curves of one task as PNG: small false-positive rates on a logarithmic axis, and the whole.

    Args:
        title: the task.
        scores: of known and unknown images by the detector's name.
        chosen: the detector that is emphasised.
    """
    auroc = {name: separation(*pair).auroc for name, pair in scores.items()}
    order = sorted(scores, key=lambda name: (name != chosen, -auroc[name]))
    canvas = figure(10.0, 4.4)
    left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
    styles = dict(zip([name for name in order if name != chosen], zip(cycle(MUTED), dashes()), strict=False))
    for name in reversed(order):  # the chosen one is drawn last, above the others
        colour, dash = styles.get(name, (CHOSEN, "-"))
        width = 2.4 if name == chosen else 1.3
        for axes in (left, right):
            axes.plot(*roc(*scores[name]), color=colour, linestyle=dash, linewidth=width, label=name)
    left.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.005), ylabel="unknown images found")
    right.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8, zorder=0)
    right.set(xlim=(0, 1))
    for axes in (left, right):
        plain(axes)
        axes.set_xlabel("false alarms", color=INK)
    handles = {line.get_label(): line for line in left.get_lines()}
    names = [f"{name}  {auroc[name]:.4f}" for name in order]
    legend = canvas.legend(
        [handles[name] for name in order], names, loc="outside right center", frameon=False, title="AUROC", fontsize=9
    )
    legend.get_texts()[0].set(color=CHOSEN if order[0] == chosen else INK, fontweight="bold")
    canvas.suptitle(title, color=INK, fontsize=12, x=0.01, ha="left")
    return png(canvas)


MARKS = {"pooled": ("s", MUTED[0]), "own": ("D", MUTED[1]), "shrunk": ("o", CHOSEN)}
"""How each calibration is drawn."""


def rates_picture(federations: Mapping[str, Any], alpha: float) -> bytes:
    """False alarms at each worker of each federation as PNG, over the band of a correctly calibrated worker.

    Args:
        federations: as ``python -m benchmarks verdict`` gives them.
        alpha: which of the false-alarm rates.
    """
    canvas = figure(3.1 * len(federations) + 0.8, 3.6)
    panels = canvas.subplots(1, len(federations), sharey=True, squeeze=False)[0]
    for axes, federation in zip(panels, federations.values(), strict=True):
        for shift, (mode, (mark, colour)) in zip((-0.2, 0.0, 0.2), MARKS.items(), strict=True):
            workers = federation["rates"][mode][str(alpha)]["workers"]
            places = np.arange(len(workers))
            if mode == "pooled":
                lows, highs = ([worker[end] for worker in workers] for end in ("low", "high"))
                axes.bar(places, np.subtract(highs, lows), 0.8, lows, color=FAINT, alpha=0.6, zorder=1)
            rates = [worker["rate"] for worker in workers]
            axes.scatter(places + shift, rates, marker=mark, color=colour, s=30, zorder=3, label=mode, linewidths=0)
        axes.axhline(alpha, color=INK, linewidth=0.8, zorder=2)
        plain(axes)
        axes.set_title(federation["title"], color=INK, fontsize=9, loc="left")
        axes.set_xticks(places, [f"{worker + 1}" for worker in places])
        axes.set_xlabel("worker", color=INK)
    panels[0].set_ylabel(f"false alarms, chosen rate {alpha:g}", color=INK)
    panels[0].set_ylim(0)
    panels[0].legend(frameon=False, fontsize=9, loc="upper left")
    return png(canvas)


def dashes() -> Sequence[str]:
    """Dash patterns that change each time the colours start anew."""
    return [dash for dash in DASHES for _ in MUTED]


def cost_picture(title: str, points: Mapping[str, tuple[float, float]], chosen: str = VERDICT) -> bytes:
    """AUROC against cost, as PNG; better is up, cheaper is left.

    Args:
        title: the task.
        points: GFLOP per image, and AUROC, by the detector's name.
        chosen: the detector that is emphasised.
    """
    canvas = figure(8.0, 5.0)
    axes = canvas.subplots()
    # A perfect detector needs a place on the logarithmic axis, too.
    missing = {name: (cost, max(1 - auroc, 1e-4)) for name, (cost, auroc) in points.items()}
    for name, (cost, error) in missing.items():
        emphasis = {"color": CHOSEN, "s": 100, "zorder": 4} if name == chosen else {"color": MUTED[0], "s": 36}
        axes.scatter([cost], [error], edgecolors="white", linewidths=0.8, **emphasis)
    costs, errors = zip(*missing.values(), strict=True)
    axes.set(xscale="log", yscale="log", xlim=(min(costs) / 2.5, max(costs) * 6))
    axes.set_ylim(min(1.0, max(errors) * 1.6), min(errors) / 1.6)
    levels = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999)
    shown = [a for a in levels if min(errors) / 1.6 <= 1 - a <= min(1.0, max(errors) * 1.6)]
    axes.set_yticks([1 - a for a in shown], [f"{a:g}" for a in shown])
    axes.minorticks_off()
    axes.set_xlabel("GFLOP per image", color=INK)
    axes.set_ylabel("AUROC", color=INK)
    plain(axes)
    axes.set_title(title, color=INK, fontsize=12, loc="left")
    name_points(canvas, axes, missing, chosen)
    return png(canvas)


Box = tuple[float, float, float, float]
"""Left, bottom, right, top in pixels."""


def memory_picture(servers: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes:
    """The server's peak memory against the number of workers, both axes logarithmic, as PNG.

    Args:
        servers: rows of "workers" and "rss_mib" by the server's name, as ``python -m benchmarks scale`` measures them.
    """
    canvas = figure(5.6, 3.4)
    axes = canvas.subplots()
    titles = {"fedavg": "FedAvg, an update at a time", "flower": "Flower's FedAvg", "median": "median"}
    for (name, title), color in zip(titles.items(), (CHOSEN, MUTED[0], MUTED[1]), strict=True):
        rows = servers.get(name, [])
        counts, sizes = [row["workers"] for row in rows], [row["rss_mib"] for row in rows]
        axes.plot(counts, sizes, "o-", color=color, linewidth=2 if name == "fedavg" else 1.2, markersize=4, label=title)
    axes.set(xscale="log", yscale="log", xlabel="workers in one round", ylabel="peak memory of the server, MiB")
    for axis, marks in ((axes.xaxis, (10, 100, 1000)), (axes.yaxis, (100, 300, 1000, 3000))):
        axis.set_ticks(marks, [f"{mark:,}" for mark in marks])
        axis.set_ticks([], minor=True)
    axes.set_title("Updates of 2.8 MB each", loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    plain(axes)
    return png(canvas)


def name_points(canvas: Any, axes: Any, points: Mapping[str, tuple[float, float]], chosen: str) -> None:  # noqa: ANN401
    """Write each name to the right of its point, moved up or down where names would meet, with a line to the point."""
    pixels = {name: axes.transData.transform(at) for name, at in points.items()}
    texts = {
        name: axes.annotate(
            name,
            points[name],
            (10, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=CHOSEN if name == chosen else INK,
            fontweight="bold" if name == chosen else "normal",
        )
        for name in sorted(points, key=lambda each: pixels[each][1])
    }
    canvas.draw_without_rendering()  # the layout is settled only now
    pixels = {name: axes.transData.transform(at) for name, at in points.items()}
    boxes = [tuple(text.get_window_extent().extents) for text in texts.values()]
    marks = [(x - 7, y - 7, x + 7, y + 7) for x, y in pixels.values()]
    frame = axes.get_window_extent()
    for (name, text), move in zip(texts.items(), apart(boxes, marks, frame.y0, frame.y1), strict=True):
        text.set_position((10, move * 72 / DPI))
        if abs(move) > 8:
            x, y = pixels[name]
            ends = axes.transData.inverted().transform([(x + 5, y), (x + 20, y + move)])
            axes.plot(*ends.T, color=QUIET, linewidth=0.8, zorder=1)


def apart(boxes: Sequence[Box], marks: Sequence[Box], lowest: float, highest: float) -> list[float]:
    """How far each box must move up (or down, below 0) so that none overlaps another or a mark.

    Args:
        boxes: the names, from the lowest to the highest, which order they keep where they meet.
        marks: boxes that do not move.
        lowest: bottom of the frame, in pixels.
        highest: its top.
    """
    moves = [0.0] * len(boxes)

    def overlap(i: int, other: Box, moved: float = 0.0) -> float:
        """Pixels by which a box reaches into another that lies above it; 0 or less where they are clear."""
        beside = boxes[i][2] < other[0] or other[2] < boxes[i][0]
        return 0.0 if beside else boxes[i][3] + moves[i] - other[1] - moved

    for _ in range(400):  # ends long before that; the bound is for names that cannot all fit
        settled = True
        for i in range(len(boxes)):
            for k in range(i + 1, len(boxes)):
                if (deep := overlap(i, boxes[k], moves[k])) > 0.5:
                    moves[i], moves[k], settled = moves[i] - deep / 2, moves[k] + deep / 2, False
            for mark in marks:
                if 0.5 < overlap(i, mark) < boxes[i][3] - boxes[i][1] + mark[3] - mark[1] - 0.5:
                    below = boxes[i][1] + boxes[i][3] + 2 * moves[i] < mark[1] + mark[3]
                    moves[i], settled = moves[i] + (-2.0 if below else 2.0), False
            moves[i] = min(max(moves[i], lowest - boxes[i][1]), highest - boxes[i][3])
        if settled:
            break
    return moves


def plain(axes: Any) -> None:  # noqa: ANN401 - as above
    """Few lines, in a light colour."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, color=FAINT)
    axes.yaxis.label.set_color(INK)
    axes.grid(visible=True, color=FAINT, linewidth=0.4)
    axes.set_axisbelow(True)


def png(canvas: Any) -> bytes:  # noqa: ANN401 - as above
    """A figure as the bytes of a PNG file."""
    file = io.BytesIO()
    canvas.savefig(file, format="png")
    return file.getvalue()
