"""``python -m benchmarks detection``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from benchmarks.commands.options import RESULTS, DataFiles, Images, Pictures, pairs
from benchmarks.detection import DetectionBench, measure, scores_file
from benchmarks.markdown import number
from benchmarks.plots import check_matplotlib, cost_picture, roc_picture
from benchmarks.results import COLUMNS, lines
from benchmarks.scores import load_scores
from fedlmd.cli.options import CORES, SettingsFile, Threads, read_settings
from fedlmd.cli.show import console, console_beside, plain, watched, write
from fedlmd.release import SHIPPED, VERDICT

RESULT = RESULTS / "detection.json"


def detection(  # noqa: PLR0913, PLR0917 - one argument for each option
    output: Annotated[Path, typer.Option(help="Folder for releases and scores; what is there is used.")] = Path(
        "bench-output/detection"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the shipped release, on few images; minutes, not hours.")
    ] = False,
    data: DataFiles = None,
    release: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of a release that is not to be trained, or NAME=pretrained; may be repeated."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    settings_file: SettingsFile = None,
    images: Images = None,
    pictures: Pictures = None,
    threads: Threads = CORES,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help=f"Write the result to this file; {RESULT} without it, or OUTPUT if --quick."),
    ] = None,
) -> None:
    """Measure how well verdict and baselines find unknown images, and their cost; when stopped, it can be continued."""
    torch.set_num_threads(threads)
    if pictures is not None:
        check_matplotlib()
    folders = {name: SHIPPED.get(name, path) if str(path) == "pretrained" else path for name, path in pairs(release)}
    config = DetectionBench(
        read_settings(settings_file), dict(pairs(data)), folders, images, tasks=tuple(task or ()), quick=quick
    )
    result = watched(measure(config, output))
    out = console_beside(json_file)
    out.print(detectors_table(result))
    out.print(verdict_table(result))
    out.print("\n".join([*cost_lines(result), *result["notes"]]))
    write(result, json_file or (output / "detection.json" if quick else RESULT))
    if pictures is not None:
        draw(result, output, pictures)


def detectors_table(result: dict[str, Any]) -> Table:
    """AUROC and cost of every detector."""
    table = Table(title="AUROC, and cost of an image", show_edge=False, title_justify="left")
    rows = [line for line in lines(result["tasks"]) if line.auroc]
    heads = [head for head in COLUMNS.values() if any(head in line.auroc for line in rows)]
    table.add_column("detector")
    for head in (*heads, "NFE", "GFLOP", "ms", "images"):
        table.add_column(head, justify="right")
    for line in rows:
        cells = [f"{line.auroc[head]:.4f}" if head in line.auroc else "" for head in heads]
        cost = [number(line.nfe), number(line.gflop), number(line.milliseconds)]
        images = "all" if line.images is None else str(line.images)
        table.add_row(line.name, *cells, *cost, images, style="bold" if line.name == VERDICT else None)
    return table


def verdict_table(result: dict[str, Any]) -> Table:
    """The verdict's figures, task by task."""
    table = Table(title="\nthe verdict", show_edge=False, title_justify="left")
    table.add_column("task")
    for head in ("accuracy", "OSCR", "false alarms", "found", "called unknown"):
        table.add_column(head, justify="right")
    names = ("accuracy", "oscr", "false_alarm_rate", "detection_rate", "called_unknown")
    for name, task in result["tasks"].items():
        figures = task["verdict"]
        table.add_row(name, *(f"{figures[key]:.4f}" if key in figures else "" for key in names))
    return table


def cost_lines(result: dict[str, Any]) -> list[str]:
    """The costs that are in no table."""
    cost = result["cost"]
    return [
        f"\na prediction: {number(cost['gflop_per_verdict'])} GFLOP, {number(cost['ms_per_verdict_p50'])} ms (median "
        f"of {cost['images']}, one at a time, {cost['threads']} threads, {cost['device']})",
        f"the denoiser runs at {cost['denoiser_gflop_per_second']:.0f} GFLOP/s, {cost['sgemm_fraction']:.0%} of a "
        "matrix product's rate",
        f"the paper's LMD in the paper's size: {number(cost['lmd_paper_seconds'])} s an image, "
        f"{number(cost['cost_ratio_lmd_paper'])} times as long",
    ]


def draw(result: dict[str, Any], output: Path, pictures: Path) -> None:
    """Every task's ROC curves, and AUROC against cost, from the scores that were stored."""
    pictures.mkdir(parents=True, exist_ok=True)
    for name, task in result["tasks"].items():
        rows = {detector: row for detector, row in task["detectors"].items() if "auroc" in row}
        if not rows:
            continue
        stored = {detector: load_scores(scores_file(output, name, detector)) for detector in rows}
        curves = {detector: (scores.known, scores.unknown) for detector, scores in stored.items() if scores}
        title = task["title"][0].upper() + task["title"][1:]
        (pictures / f"roc-{name}.png").write_bytes(roc_picture(title, curves))
        points = {detector: (row["gflop"], row["auroc"]) for detector, row in rows.items()}
        (pictures / f"cost-{name}.png").write_bytes(cost_picture(f"{title}: AUROC against cost", points))
    console().print(f"pictures in {plain(pictures)}")
