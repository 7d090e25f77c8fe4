"""The README's tables, made from the JSON that a benchmark wrote, so that no figure is copied by hand."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedlmd.answer import VERDICT
from fedlmd.bench.results import COLUMNS, Line, lines, tasks_of

__all__ = [
    "TABLES",
    "MarkdownError",
    "ablation_table",
    "cost_table",
    "detection_table",
    "faults_table",
    "federations_table",
    "merge_table",
    "number",
    "overhead_table",
    "results_at",
    "rewritten",
    "scale_table",
    "verdict_table",
    "words_table",
]

MARKED = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(^<!-- /table -->)", re.DOTALL | re.MULTILINE)
OPENED = re.compile(r"<!-- table: ", re.MULTILINE)


class MarkdownError(ValueError):
    """Markers that do not say which table belongs between them, or where it ends."""


def results_at(file: Path) -> dict[str, Any]:
    """What ``fedlmd bench detection`` wrote, and what others wrote beside it, under their names in ``BESIDE``."""
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

    def fresh(found: re.Match[str]) -> str:
        if found[2] not in TABLES:
            raise MarkdownError(f"there is no table {found[2]!r}; there are {', '.join(TABLES)}")
        for name, (command, tables) in BESIDE.items():
            if found[2] in tables and name not in result:
                needed = f"benchmarks/{command}.json; run: fedlmd bench {command}"
                raise MarkdownError(f"the table {found[2]!r} needs {needed}")
        return found[1] + TABLES[found[2]](result) + found[4]

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
    found = lines(result["tasks"])
    heads = [head for head in COLUMNS.values() if any(head in line.auroc for line in found)]
    best = {head: max(line.auroc.get(head, 0.0) for line in found) for head in heads}

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
    return table(head, [row(line) for line in found if line.auroc])


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
            values = [(of["verdict"] if part == "verdict" else of["detectors"][VERDICT])[name] for of in tasks]
            spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.4f}{spread}")
        rows.append([title, *cells])
    return table(["task", *(head for head, _, _ in VERDICT_COLUMNS)], rows) + same_digits(result["tasks"])


def same_digits(tasks: Mapping[str, Any]) -> str:
    """What is said of the known digits in another hand."""
    told = [of["verdict"] for of in tasks.values() if "called_unknown" in of["verdict"]]
    return "".join(
        f"\nThe known digits in another hand (USPS): {of['called_unknown']:.1%} are called unknown; "
        f"the class is right for {of['accuracy_elsewhere']:.1%}.\n"
        for of in told
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


MODES = {"pooled": "all sites alike", "own": "the site's own", "shrunk": "own, shrunk"}
STRANGERS = {"unknown": "unknown digits", "fashion": "Fashion-MNIST", "notmnist": "notMNIST"}


def federations_table(result: Mapping[str, Any]) -> str:
    """False alarms in drawn federations: of all workers together, of the worst, and how many workers are outside."""
    kinds = result["trust"]["federations"]
    first = next(iter(kinds.values()))["rates"]["own"]
    strangers = [name for name in STRANGERS if name in first["0.05"]["found"]]
    rows = []
    for of in kinds.values():
        for mode, title in MODES.items():
            by_alpha = of["rates"][mode]
            told = by_alpha["0.05"]
            worst = max((worker["rate"] for worker in told["workers"]), key=lambda rate: abs(rate - 0.05))
            found = [f"{told['found'][name]:.1%}" for name in strangers]
            rates = [f"{summed['rate']:.4f}" for summed in by_alpha.values()]
            name = f"**{title}**" if mode == "shrunk" else title
            outside = [f"{told['outside']} of {len(told['workers'])}", f"{told['outside_in_one_run']:.1%}"]
            rows.append([of["title"], name, *rates, f"{worst:.4f}", *outside, *found])
    heads = [f"false alarms at {alpha}" for alpha in first]
    last = ["worst worker at 0.05", "outside 99%", "in one run", *(f"found: {STRANGERS[name]}" for name in strangers)]
    return table(["five workers", "calibrated on", *heads, *last], rows)


def words_table(result: Mapping[str, Any]) -> str:
    """What is called known, uncertain and unknown, in federations of each kind."""
    rows = []
    for of in result["trust"]["federations"].values():
        for name, shares in of["verdicts"].items():
            cells = [f"{shares[word]:.2%}" for word in ("known", "uncertain", "unknown")]
            wrong = f"{shares['known, wrong label']:.3%}" if "known, wrong label" in shares else ""
            rows.append([of["title"], STRANGERS.get(name, "known"), *cells, wrong])
    return table(["five workers", "images", "known", "uncertain", "unknown", "known, wrong label"], rows)


def ablation_table(result: Mapping[str, Any]) -> str:
    """Every choice of the detector by itself, the release's own in bold; differences with their standard errors."""
    rows, last = [], ""
    for of in result["ablation"]["rows"]:
        name = f"**{of['variant']}**" if of["default"] else of["variant"]
        beside = "" if of["default"] else f"{of['difference']:+.4f} ± {of['error']:.4f}"
        group, last = "" if of["group"] == last else of["group"], of["group"]
        rows.append([group, name, f"{of['auroc']:.4f}", beside, number(of["nfe"]), number(of["ms"])])
    return table(["group", "variant", "AUROC", "against the default", "NFE", "ms"], rows)


def merge_table(result: Mapping[str, Any]) -> str:
    """Every merge on every federation, the best of each score in bold."""
    told = result["merge"]
    scores = {"one-step": "auroc_one_step", "LMD": "auroc_lmd", "verdict": "auroc_verdict"}
    rows = []
    for name, methods in told["rows"].items():
        top = {score: max(of[score] for of in methods.values()) for score in scores.values()}
        for position, (method, of) in enumerate(methods.items()):
            cells = [f"{of[score]:.4f}" for score in scores.values()]
            bold = [
                f"**{cell}**" if of[score] == top[score] and len(methods) > 1 else cell
                for score, cell in zip(scores.values(), cells, strict=True)
            ]
            foreign = f"{of['unknown_to_others']:.1%}" if "unknown_to_others" in of else ""
            title = "central" if name == "central" else told["methods"][method]["title"]
            first = told["federations"][name] if position == 0 else ""
            rows.append([first, title, *bold, f"{of['accuracy']:.4f}", foreign, f"{of['bytes_up'] / 1e6:.1f}"])
    head = ["federation", "merge", *scores, "accuracy", "others' known called unknown", "MB sent by a worker"]
    return table(head, rows)


def faults_table(result: Mapping[str, Any]) -> str:
    """What was done to a run, and what came of it; in bold what it did not survive."""
    rows = []
    for of in result["faults"]["faults"][1:]:
        came = of["outcome"] if of["survived"] else f"**{of['skipped'] or '; '.join(of['problems'])}**"
        figures = [f"{of['seconds']:.0f}", str(of["rounds_lost"])] if of["survived"] else ["", ""]
        rows.append([of["title"], came, *figures, "yes" if of["by_hand"] else "no"])
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
    for name, found in measured.items():
        sizes = {int(row["workers"]): f"{row['rss_mib']:,.0f} MiB" for row in found}
        rows.append([SERVERS[name], *(sizes.get(count, "") for count in columns)])
    return table(["memory of the server's process", *(f"{count:,} workers" for count in columns)], rows)


def overhead_table(result: Mapping[str, Any]) -> str:
    """What a round takes: beyond training, beside Flower's own quickstart; and with many simulated workers."""
    figures, of = result["scale"]["figures"], result["scale"]["simulation"]
    rows = [[title, f"{figures[key]:.1f} s"] for key, title in OVERHEADS.items()]
    many = f"{of['workers']:,} simulated workers, {of['actors']} at a time, one step of each network"
    return table(["a round", "time"], [*rows, [many, f"{of['seconds']:,.0f} s"]])


BESIDE = {
    "trust": ("verdict", ("federations", "words")),
    "ablation": ("ablation", ("ablation",)),
    "merge": ("merge", ("merge",)),
    "faults": ("faults", ("faults",)),
    "scale": ("scale", ("scale", "overhead")),
}
"""Of other commands than ``fedlmd bench detection``: the name of what one measured, the command, its tables."""

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
}
"""The tables by the name that a marker has."""
