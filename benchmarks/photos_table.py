"""The tables of detection on photographs, from what ``python -m benchmarks photos`` wrote."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

GROUPS = {"sign language, 6 known of 10": "sign-?", "CIFAR-10, 6 known of 10": "cifar-?", "magnetic tiles": "tiles"}
"""Columns, and the tasks whose mean each is."""

OURS = {
    "verdict": "**verdict**",
    "mahalanobis": "mahalanobis",
    "thumbnail": "thumbnail",
    "one-step": "one-step",
    "lmd": "lmd",
    "max-logit": "max-logit",
    "descriptor": "descriptor",
}
RIVALS = {
    "probe": "linear classifier of the encoder's features, max-logit",
    "mahalanobis": "Mahalanobis of the encoder's features",
    "mahalanobis++": "Mahalanobis++",
    "knn": "kNN",
    "vim": "ViM",
    "patchcore": "patch memory (PatchCore)",
}

Rows = Sequence[Mapping[str, Any]]
Value = Callable[[Mapping[str, Any]], float]
Cells = Callable[[Rows], tuple[list[str], list[list[str]]]]


def photos_cells(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Head and cells: AUROC of every score, ours and rivals', in each group of tasks and against far images.

    Args:
        rows: of the result, one for each task.
    """
    cells = []
    for kind, names in (("scores", OURS), ("rivals", RIVALS)):
        for name, title in names.items():

            def unknown(row: Mapping[str, Any], kind: str = kind, name: str = name) -> float:
                return float(row[kind][name]["unknown"])

            having = [row for row in rows if name in row.get(kind, {})]
            levels = [spread(of_group(having, pattern), unknown) for pattern in GROUPS.values()]
            if any(levels):
                cells.append([title, *levels, far(having, kind, name)])
    return ["AUROC of", *GROUPS, "far images"], cells


def of_group(rows: Rows, pattern: str) -> list[Mapping[str, Any]]:
    """The rows of a group's tasks."""
    return [row for row in rows if PurePath(row["task"]).match(pattern)]


def spread(rows: Rows, value: Value) -> str:
    """Mean and standard deviation over the rows, to three digits; empty without rows."""
    values = [value(row) for row in rows]
    if not values:
        return ""
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def far(rows: Rows, kind: str, name: str) -> str:
    """The mean and the lowest AUROC against far images; empty where none were scored."""
    one_site = [row for row in rows if any(PurePath(row["task"]).match(pattern) for pattern in GROUPS.values())]
    values = [value for row in one_site for part, value in row[kind][name].items() if part.startswith("far")]
    return f"{statistics.mean(values):.3f} (lowest {min(values):.3f})" if values else ""


FIGURES: dict[str, Value] = {
    "accuracy": lambda row: row["accuracy"],
    "false alarms, chosen rate 0.05": lambda row: row["false_alarms"],
    "unknown images found": lambda row: row["detected"],
    "minutes of one core to train": lambda row: row["minutes_train"],
    "milliseconds for an answer, one core": lambda row: row["ms_per_verdict_p50"],
}


def figure_cells(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Head and cells: what the verdict achieves and costs, in each group of tasks."""
    groups = {title: of_group(rows, pattern) for title, pattern in GROUPS.items()}
    shown = {title: group for title, group in groups.items() if group}
    return ["", *shown], [
        [name, *(spread(group, value) for group in shown.values())] for name, value in FIGURES.items()
    ]


WAYS = {
    "sign-0": "one site",
    "sign-0-iid": "two sites, images divided at random, 4 rounds",
    "sign-0-lists": "two sites, signs 0-3 and 2-5, 4 rounds",
    "sign-0-scratch": "one site, without an encoder, 32 x 32 pixels",
}


def way_cells(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Head and cells: the signs 0-5 against 6-9, learnt in several ways."""
    by_name = {row["task"]: row for row in rows}
    cells = []
    for name, title in WAYS.items():
        if name in by_name:
            row = by_name[name]
            scores = [row["scores"][score]["unknown"] for score in ("verdict", "one-step", "lmd")]
            sent = f"{row['bytes_per_round'] / 1e6:.1f}" if "bytes_per_round" in row else ""
            cells.append([title, f"{row['accuracy']:.3f}", *(f"{score:.3f}" for score in scores), sent])
    return ["signs 0-5 against 6-9", "accuracy", "verdict", "one-step", "lmd", "MB sent by a worker in a round"], cells


HEAT = {
    "over_chance": "share of the heat inside the defect, over the defect's share of the area",
    "pixel_auroc": "AUROC of pixels",
    "aupro": "AUPRO up to a false-positive rate of 0.3",
}


def heat_cells(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Head and cells: how well heat-maps lie on the defects of magnetic tiles."""
    [heat] = [row["heat"] for row in rows if "heat" in row]
    tiles = [f"all kinds ({heat['tiles']} tiles)", f"cracks and fraying, unknown ({heat['unknown_tiles']} tiles)"]
    cells = [[title, f"{heat[name]:.2f}", f"{heat[f'unknown_{name}']:.2f}"] for name, title in HEAT.items()]
    return ["heat-maps of magnetic tiles", *tiles], cells
