"""The tables of README and docs, made from the JSON that a benchmark wrote, so that no figure is copied by hand."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.photos_table import Cells, figure_cells, heat_cells, photos_cells, way_cells
from benchmarks.results import COLUMNS, Line, lines, tasks_of
from fedlmd.release import VERDICT

MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(^<!-- /table -->)", re.DOTALL | re.MULTILINE)
OPENED = re.compile(r"<!-- table: ", re.MULTILINE)


class MarkdownError(ValueError):
    """Markers that do not say which table belongs between them, or where it ends."""


def results_at(file: Path) -> dict[str, Any]:
    """The result of the command ``detection``, and those of others in the same folder by their names in ``BESIDE``."""
    result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    for name, (command, _) in BESIDE.items():
        other = file.parent / f"{command}.json"
        if other.exists():
            result[name] = json.loads(other.read_text(encoding="utf-8"))
    return result


def rewritten(text: str, result: Mapping[str, Any]) -> str:
    """A page with every marked table made anew; what lies outside the markers stays.

    A table lies between the lines ``<!-- table: NAME -->`` and ``<!-- /table -->``.

    Args:
        text: the page.
        result: what ``results_at`` gives.

    Raises:
        MarkdownError: on an unknown name, a table whose figures are not there, or a table without an end.
    """
    if len(OPENED.findall(text)) != len(MARKED.findall(text)):
        raise MarkdownError("a table is opened but not closed; each <!-- table: NAME --> needs its <!-- /table -->")

    def fresh(marked: re.Match[str]) -> str:
        if marked[2] not in TABLES:
            raise MarkdownError(f"there is no table {marked[2]!r}; there are {', '.join(TABLES)}")
        for name, (command, tables) in BESIDE.items():
            if marked[2] in tables and name not in result:
                needed = f"benchmarks/results/{command}.json; run: python -m benchmarks {command}"
                raise MarkdownError(f"the table {marked[2]!r} needs {needed}")
        return marked[1] + TABLES[marked[2]](result) + marked[4]

    return MARKED.sub(fresh, text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left and the others to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def number(value: int | float) -> str:
    """A cost to three significant digits at most, thousands set apart: 0, 0.0139, 2.35, 1,240."""
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def detection_table(result: Mapping[str, Any]) -> str:
    """AUROC of every detector on every task, and what it costs per image."""
    every = lines(result["tasks"])
    heads = [head for head in COLUMNS.values() if any(head in line.auroc for line in every)]
    best = {head: max(line.auroc.get(head, 0.0) for line in every) for head in heads}

    def row(line: Line) -> list[str]:
        name = f"**{line.name}**" if line.name == VERDICT else line.name
        images = "all" if line.images is None else number(line.images)
        cost = [number(line.nfe), number(line.gflop), number(line.milliseconds)]
        cells = []
        for head in heads:
            cell = f"{line.auroc[head]:.4f}" if head in line.auroc else ""
            cells.append(f"**{cell}**" if cell and line.auroc[head] == best[head] else cell)
        return [name, *cells, *cost, images]

    head = ["AUROC of", *heads, "NFE", "GFLOP", "ms", "images"]
    return table(head, [row(line) for line in every if line.auroc])


VERDICT_COLUMNS = (
    ("accuracy", "verdict", "accuracy"),
    ("OSCR", "verdict", "oscr"),
    ("AUROC", "detector", "auroc"),
    ("AUPR", "detector", "aupr"),
    ("FPR at 95% TPR", "detector", "fpr95"),
    ("false alarms", "verdict", "false_alarm_rate"),
    ("found", "verdict", "detection_rate"),
)


def verdict_table(result: Mapping[str, Any]) -> str:
    """All figures of the verdict, task by task; of the splits mean and standard deviation."""
    rows = []
    for column, title in COLUMNS.items():
        tasks = tasks_of(result["tasks"], column)
        if not tasks:
            continue
        cells = []
        for _, part, name in VERDICT_COLUMNS:
            values = [(task["verdict"] if part == "verdict" else task["detectors"][VERDICT])[name] for task in tasks]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        rows.append([title, *cells])
    return table(["task", *(head for head, _, _ in VERDICT_COLUMNS)], rows) + same_digits(result["tasks"])


def same_digits(tasks: Mapping[str, Any]) -> str:
    """A sentence on the known digits in other handwriting."""
    verdicts = [task["verdict"] for task in tasks.values() if "called_unknown" in task["verdict"]]
    return "".join(
        f"\nThe known digits in another hand (USPS): {verdict['called_unknown']:.1%} are called unknown; "
        f"the class is right for {verdict['accuracy_elsewhere']:.1%}.\n"
        for verdict in verdicts
    )


def cost_table(result: Mapping[str, Any]) -> str:
    """What a verdict costs, beside the paper's detector on the same machine."""
    cost, figures = result["cost"], result["figures"]
    threads = f"{cost['threads']} thread{'s' if cost['threads'] > 1 else ''}"
    rows = [
        ["operations of a verdict, half of the images unknown", f"{number(cost['gflop_per_verdict'])} GFLOP"],
        [f"an answer, one image at a time, median, {threads}", f"{number(cost['ms_per_verdict_p50'])} ms"],
        ["the denoiser's rate, of that of a large matrix product", f"{cost['sgemm_fraction']:.0%}"],
        ["the paper's LMD in the paper's size, one image, same machine", f"{number(cost['lmd_paper_seconds'])} s"],
        ["that is, as many answers", number(cost["cost_ratio_lmd_paper"])],
        ["size of a release", f"{number(figures['release_mib'])} MiB"],
    ]
    return table(["cost", "figure"], rows)


MODES = {"pooled": "all workers alike", "own": "the worker's own", "shrunk": "own, shrunk"}
UNKNOWN = {"unknown": "unknown digits", "fashion": "Fashion-MNIST", "notmnist": "notMNIST"}


def federations_table(result: Mapping[str, Any]) -> str:
    """False alarms in drawn federations: of all workers together, of the worst, and how many workers are outside."""
    kinds = result["trust"]["federations"]
    first = next(iter(kinds.values()))["rates"]["own"]
    pools = [name for name in UNKNOWN if name in first["0.05"]["found"]]
    rows = []
    for kind in kinds.values():
        for mode, title in MODES.items():
            by_alpha = kind["rates"][mode]
            chosen = by_alpha["0.05"]
            worst = max((worker["rate"] for worker in chosen["workers"]), key=lambda rate: abs(rate - 0.05))
            detected = [f"{chosen['found'][name]:.1%}" for name in pools]
            rates = [f"{summed['rate']:.4f}" for summed in by_alpha.values()]
            name = f"**{title}**" if mode == "shrunk" else title
            outside = [f"{chosen['outside']} of {len(chosen['workers'])}", f"{chosen['outside_in_one_run']:.1%}"]
            rows.append([kind["title"], name, *rates, f"{worst:.4f}", *outside, *detected])
    heads = [f"false alarms at {alpha}" for alpha in first]
    last = ["worst worker at 0.05", "outside 99%", "in one run", *(f"found: {UNKNOWN[name]}" for name in pools)]
    return table(["five workers", "calibrated on", *heads, *last], rows)


def words_table(result: Mapping[str, Any]) -> str:
    """Shares that are called known, uncertain and unknown, in federations of each kind."""
    rows = []
    for kind in result["trust"]["federations"].values():
        for name, shares in kind["verdicts"].items():
            cells = [f"{shares[word]:.2%}" for word in ("known", "uncertain", "unknown")]
            wrong = f"{shares['known, wrong label']:.3%}" if "known, wrong label" in shares else ""
            rows.append([kind["title"], UNKNOWN.get(name, "known"), *cells, wrong])
    return table(["five workers", "images", "known", "uncertain", "unknown", "known, wrong label"], rows)


def ablation_table(result: Mapping[str, Any]) -> str:
    """Every choice of the detector by itself, the release's own in bold; differences with their standard errors."""
    rows, last = [], ""
    for row in result["ablation"]["rows"]:
        name = f"**{row['variant']}**" if row["default"] else row["variant"]
        difference = "" if row["default"] else f"{row['difference']:+.4f} ± {row['error']:.4f}"
        group, last = "" if row["group"] == last else row["group"], row["group"]
        rows.append([group, name, f"{row['auroc']:.4f}", difference, number(row["nfe"]), number(row["ms"])])
    return table(["group", "variant", "AUROC", "against the default", "NFE", "ms"], rows)


def merge_table(result: Mapping[str, Any]) -> str:
    """Every merge on every federation, the best of each score in bold."""
    merges = result["merge"]
    scores = {"one-step": "auroc_one_step", "LMD": "auroc_lmd", "verdict": "auroc_verdict"}
    rows = []
    for name, methods in merges["rows"].items():
        top = {score: max(row[score] for row in methods.values()) for score in scores.values()}
        for position, (method, row) in enumerate(methods.items()):
            cells = [f"{row[score]:.4f}" for score in scores.values()]
            bold = [
                f"**{cell}**" if row[score] == top[score] and len(methods) > 1 else cell
                for score, cell in zip(scores.values(), cells, strict=True)
            ]
            foreign = f"{row['unknown_to_others']:.1%}" if "unknown_to_others" in row else ""
            title = "central" if name == "central" else merges["methods"][method]["title"]
            first = merges["federations"][name] if position == 0 else ""
            rows.append([first, title, *bold, f"{row['accuracy']:.4f}", foreign, f"{row['bytes_up'] / 1e6:.1f}"])
    head = ["federation", "merge", *scores, "accuracy", "others' known called unknown", "MB sent by a worker"]
    return table(head, rows)


def faults_table(result: Mapping[str, Any]) -> str:
    """Every fault and its outcome; in bold what the run did not survive."""
    rows = []
    for fault in result["faults"]["faults"][1:]:
        outcome = fault["outcome"] if fault["survived"] else f"**{fault['skipped'] or '; '.join(fault['problems'])}**"
        figures = [f"{fault['seconds']:.0f}", str(fault["rounds_lost"])] if fault["survived"] else ["", ""]
        rows.append([fault["title"], outcome, *figures, "yes" if fault["by_hand"] else "no"])
    return table(["fault", "what happened", "seconds to go on", "rounds lost", "resumed by hand"], rows)


SERVERS = {
    "fedavg": "our server, FedAvg",
    "fedadam": "our server, FedAdam",
    "flower": "Flower's FedAvg",
    "median": "our server, median",
}
OVERHEADS = {
    "round_overhead_seconds": "ours: a round of two workers beyond training",
    "round_overhead_flower_quickstart_train_only_seconds": "Flower's quickstart, training only",
    "round_overhead_flower_quickstart_seconds": "Flower's quickstart, training and evaluation",
}


def scale_table(result: Mapping[str, Any]) -> str:
    """The most memory of the server's process in a round, by the number of workers."""
    measured = result["scale"]["memory"]
    columns = sorted({int(row["workers"]) for rows in measured.values() for row in rows})
    rows = []
    for name, by_count in measured.items():
        sizes = {int(row["workers"]): f"{row['rss_mib']:,.0f} MiB" for row in by_count}
        rows.append([SERVERS[name], *(sizes.get(count, "") for count in columns)])
    return table(["memory of the server's process", *(f"{count:,} workers" for count in columns)], rows)


def overhead_table(result: Mapping[str, Any]) -> str:
    """Seconds of a round: beyond training, beside Flower's own quickstart; and with many simulated workers."""
    figures, simulation = result["scale"]["figures"], result["scale"]["simulation"]
    rows = [[title, f"{figures[key]:.1f} s"] for key, title in OVERHEADS.items()]
    many = f"{simulation['workers']:,} simulated workers, {simulation['actors']} at a time, one step of each network"
    return table(["a round", "time"], [*rows, [many, f"{simulation['seconds']:,.0f} s"]])


def of_photos(cells: Cells) -> Callable[[Mapping[str, Any]], str]:
    """A table of detection on photographs, by what makes its head and cells of a result's rows."""
    return lambda result: table(*cells(result["photos"]["rows"]))


BESIDE = {
    "trust": ("verdict", ("federations", "words")),
    "ablation": ("ablation", ("ablation",)),
    "merge": ("merge", ("merge",)),
    "faults": ("faults", ("faults",)),
    "scale": ("scale", ("scale", "overhead")),
    "photos": ("photos", ("photos", "photos-figures", "photos-ways", "photos-heat")),
}
"""Of other commands than ``python -m benchmarks detection``: the name of what one measured, the command, its tables."""

TABLES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "detection": detection_table,
    "verdict": verdict_table,
    "cost": cost_table,
    "federations": federations_table,
    "words": words_table,
    "ablation": ablation_table,
    "merge": merge_table,
    "faults": faults_table,
    "scale": scale_table,
    "overhead": overhead_table,
    "photos": of_photos(photos_cells),
    "photos-figures": of_photos(figure_cells),
    "photos-ways": of_photos(way_cells),
    "photos-heat": of_photos(heat_cells),
}
"""The tables by the name that a marker has."""
