"""Commands that measure what the README's tables say: bench rounds, detection, verdict, ablation, tables and others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from fedlmd.answer import VERDICT
from fedlmd.bench import ablation, accuracy, detection, plots, rounds, runtimes, verdict
from fedlmd.bench.ablation import AblationBench
from fedlmd.bench.detection import DetectionBench
from fedlmd.bench.markdown import ablation_table, federations_table, number, results_at, rewritten, words_table
from fedlmd.bench.results import COLUMNS, PREDICTION, lines
from fedlmd.bench.scores import kept
from fedlmd.bench.verdict import HEADLINE, VerdictBench
from fedlmd.cli.options import CORES, JsonFile, SettingsFile, Threads, read_settings
from fedlmd.cli.show import console, watched, write
from fedlmd.node import SHIPPED

__all__ = ["bench_app"]

bench_app = typer.Typer(help="Measure what the README's tables say.", no_args_is_help=True)

RESULT = Path("benchmarks/detection.json")
PAGES = ("README.md", "docs/results.md")


@bench_app.command("rounds")
def rounds_command(
    output: Annotated[Path, typer.Option(help="Folder for the clusters' homes.")] = Path("bench-output"),
    json_file: JsonFile = Path("benchmarks/rounds.json"),
) -> None:
    """Measure a round's cost beyond training, with the warm trainer and without."""
    for result in watched(rounds.measure(output)):
        table = Table(title="seconds of a round beyond training", show_edge=False, title_justify="left")
        for column in ("trainer", "median", "rounds"):
            table.add_column(column)
        for kind in ("warm", "cold"):
            table.add_row(
                kind, f"{result['figures'][f'round_overhead_{kind}_seconds']:.1f}", str(result["rounds"][kind])
            )
        Console(highlight=False).print(table)
        write(result, json_file)


@bench_app.command("accuracy")
def accuracy_command(
    output: Annotated[Path, typer.Option(help="Folder for the cluster's homes.")] = Path("bench-output"),
    json_file: JsonFile = Path("benchmarks/accuracy.json"),
) -> None:
    """Measure the classifier of two workers that share all ten digits."""
    for result in watched(accuracy.measure(output)):
        figures = result["figures"]
        share, seconds = figures["accuracy_iid_ten_digits"], figures["seconds_of_rounds"]
        Console(highlight=False).print(f"accuracy {share:.4f} on {result['images']} images after {seconds:.0f} s")
        write(result, json_file)


@bench_app.command("runtimes")
def runtimes_command(
    output: Annotated[Path, typer.Option(help="Folder for exported networks.")] = Path("bench-output/runtimes"),
    json_file: JsonFile = Path("benchmarks/runtimes.json"),
) -> None:
    """Measure the denoiser in other runtimes than plain torch, those that are installed."""
    for result in watched(runtimes.measure(output)):
        figures = result["figures"]
        table = Table(title="the denoiser on one thread, milliseconds", show_edge=False, title_justify="left")
        table.add_column("runtime")
        for batch in runtimes.BATCHES:
            table.add_column(f"batch {batch}", justify="right")
        for name in result["differences"]:
            cells = [
                f"{figures[f'{name}_batch_{batch}_ms']:.2f} ({figures[f'{name}_batch_{batch}_speedup']:.2f}x)"
                for batch in runtimes.BATCHES
            ]
            table.add_row(name, *cells)
        Console(highlight=False).print(table)
        console().print("\n".join(f"{name} was left out: {reason}" for name, reason in result["skipped"].items()))
        write(result, json_file)


@bench_app.command("detection")
def detection_command(
    output: Annotated[Path, typer.Option(help="Folder for releases and scores; what is there is used.")] = Path(
        "bench-output/detection"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the shipped release, on few images; minutes, not hours.")
    ] = False,
    data: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE.npz for fashion, notmnist or usps; may be repeated.")
    ] = None,
    release: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of a release that is not to be trained, or NAME=pretrained; may be repeated."),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; may be repeated.")] = None,
    settings_file: SettingsFile = None,
    images: Annotated[
        int | None, typer.Option(help="At most so many images of each kind; all of them without it.", min=1)
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for ROC curves and AUROC against cost, as PNG.")] = None,
    threads: Threads = CORES,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help=f"Write the result to this file; {RESULT} without it, or OUTPUT if --quick."),
    ] = None,
) -> None:
    """Measure how well the verdict and its rivals find unknown images, and at what cost; can be stopped and goes on."""
    torch.set_num_threads(threads)
    if pictures is not None:
        plots.figure(1.0, 1.0)  # says what is missing now, not after hours
    folders = {name: SHIPPED.get(name, path) if str(path) == "pretrained" else path for name, path in pairs(release)}
    config = DetectionBench(
        read_settings(settings_file), dict(pairs(data)), folders, images, tasks=tuple(task or ()), quick=quick
    )
    for result in watched(detection.measure(config, output)):
        out = Console(highlight=False, soft_wrap=True)
        out.print(detection_table(result))
        out.print(verdict_table(result))
        out.print("\n".join([*cost_lines(result), *result["notes"]]))
        write(result, json_file or (output / "detection.json" if quick else RESULT))
        if pictures is not None:
            draw(result, output, pictures)


@bench_app.command("verdict")
def verdict_command(
    output: Annotated[Path, typer.Option(help="Folder for scores, tables and pictures; what is there is used.")] = Path(
        "bench-output/verdict"
    ),
    data: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE.npz for usps, fashion or notmnist; may be repeated.")
    ] = None,
    release: Annotated[
        str, typer.Option(help="A release's folder, or 'pretrained' for the shipped one.")
    ] = "pretrained",
    seeds: Annotated[int, typer.Option(help="Federations that are drawn of each kind.", min=1)] = 20,
    images: Annotated[
        int | None, typer.Option(help="At most so many images of each kind; all of them without it.", min=1)
    ] = None,
    pictures: Annotated[Path | None, typer.Option(help="Folder for false-alarms.png.")] = None,
    threads: Threads = CORES,
    json_file: JsonFile = Path("benchmarks/verdict.json"),
) -> None:
    """Measure whether the chosen rate of false alarms holds at every site; can be stopped and goes on."""
    torch.set_num_threads(threads)
    if pictures is not None:
        plots.figure(1.0, 1.0)  # says what is missing now, not after minutes
    folder = SHIPPED.get(release, Path(release))
    config = VerdictBench(folder, dict(pairs(data)), seeds, images)
    for result in watched(verdict.measure(config, output)):
        tables = f"{federations_table({'trust': result})}\n{words_table({'trust': result})}"
        (output / "verdict.md").write_text(tables, encoding="utf-8")
        Console(highlight=False, soft_wrap=True).print(tables, markup=False)
        console().print("\n".join([*result["notes"], f"the tables are in {output / 'verdict.md'}"]))
        write(result, json_file)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            (pictures / "false-alarms.png").write_bytes(plots.rates_picture(result["federations"], HEADLINE))


@bench_app.command("ablation")
def ablation_command(
    output: Annotated[Path, typer.Option(help="Folder for scores and the table; what is there is used.")] = Path(
        "bench-output/ablation"
    ),
    release: Annotated[
        str, typer.Option(help="A release's folder, or a shipped one's name; it knows some digits, not all.")
    ] = ablation.DEFAULT,
    images: Annotated[int, typer.Option(help="So many images of each kind.", min=2)] = 300,
    threads: Threads = CORES,
    json_file: JsonFile = Path("benchmarks/ablation.json"),
) -> None:
    """Measure what each choice of the detector buys, one varied at a time; can be stopped and goes on."""
    torch.set_num_threads(threads)
    for result in watched(ablation.measure(AblationBench(release, images), output)):
        table = ablation_table({"ablation": result})
        (output / "ablation.md").write_text(table, encoding="utf-8")
        Console(highlight=False, soft_wrap=True).print(table, markup=False)
        figures = result["figures"]
        shares = (f"{figures[f'second_stage_{kind}']:.1%} of the {kind} images" for kind in ("known", "unknown"))
        console().print(f"two stages: {' and '.join(shares)} got a second look; the table is in {output}/ablation.md")
        write(result, json_file)


@bench_app.command("tables")
def tables_command(
    page: Annotated[
        list[Path] | None,
        typer.Option(help=f"A page whose marked tables are made anew; {' and '.join(PAGES)} without it."),
    ] = None,
    json_file: Annotated[
        Path, typer.Option("--json", help="What bench detection wrote; what other benchmarks wrote lies beside it.")
    ] = RESULT,
) -> None:
    """Bring the tables of README and docs up to date with what was measured."""
    results = results_at(json_file)
    for path in page or map(Path, PAGES):
        old = path.read_text(encoding="utf-8")
        new = rewritten(old, results)
        if new != old:
            path.write_text(new, encoding="utf-8")
        console().print(f"{path} {'has new tables' if new != old else 'is up to date'}")


def pairs(given: Sequence[str] | None) -> list[tuple[str, Path]]:
    """NAME=PATH, taken apart.

    Raises:
        ValueError: when one has another form.
    """
    found = []
    for text in given or []:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ValueError(f"{text!r} is not NAME=PATH")
        found.append((name, Path(path)))
    return found


def detection_table(result: dict[str, Any]) -> Table:
    """AUROC and cost of every detector."""
    table = Table(title="AUROC, and what an image costs", show_edge=False, title_justify="left")
    found = [line for line in lines(result["tasks"]) if line.auroc]
    heads = [head for head in COLUMNS.values() if any(head in line.auroc for line in found)]
    table.add_column("detector")
    for head in (*heads, "NFE", "GFLOP", "ms", "images"):
        table.add_column(head, justify="right")
    for line in found:
        cells = [f"{line.auroc[head]:.4f}" if head in line.auroc else "" for head in heads]
        cost = [number(line.nfe), number(line.gflop), number(line.milliseconds)]
        images = "all" if line.images is None else str(line.images)
        table.add_row(line.name, *cells, *cost, images, style="bold" if line.name == VERDICT else None)
    return table


def verdict_table(result: dict[str, Any]) -> Table:
    """What the verdict amounts to, task by task."""
    table = Table(title="\nthe verdict", show_edge=False, title_justify="left")
    table.add_column("task")
    for head in ("accuracy", "OSCR", "false alarms", "found", "called unknown"):
        table.add_column(head, justify="right")
    names = ("accuracy", "oscr", "false_alarm_rate", "detection_rate", "called_unknown")
    for task, of in result["tasks"].items():
        told = of["verdict"]
        table.add_row(task, *(f"{told[name]:.4f}" if name in told else "" for name in names))
    return table


def cost_lines(result: dict[str, Any]) -> list[str]:
    """What tables of detection do not say."""
    cost = result["cost"]
    return [
        f"\nan answer: {number(cost['gflop_per_verdict'])} GFLOP, {number(cost['ms_per_verdict_p50'])} ms (median of "
        f"{cost['images']}, one at a time, {cost['threads']} threads, {cost['device']})",
        f"the denoiser runs at {cost['denoiser_gflop_per_second']:.0f} GFLOP/s, {cost['sgemm_fraction']:.0%} of a "
        "matrix product's rate",
        f"the paper's LMD in the paper's size: {number(cost['lmd_paper_seconds'])} s an image, "
        f"{number(cost['cost_ratio_lmd_paper'])} times as long",
    ]


def draw(result: dict[str, Any], output: Path, pictures: Path) -> None:
    """Every task's ROC curves, and AUROC against cost, from the scores that were kept."""
    pictures.mkdir(parents=True, exist_ok=True)
    for task, of in result["tasks"].items():
        rows = {name: row for name, row in of["detectors"].items() if "auroc" in row and name != PREDICTION}
        if not rows:
            continue
        there = {name: kept(detection.scores_file(output, task, name)) for name in rows}
        curves = {name: (scores.known, scores.unknown) for name, scores in there.items() if scores is not None}
        title = of["title"][0].upper() + of["title"][1:]
        (pictures / f"roc-{task}.png").write_bytes(plots.roc_picture(title, curves))
        points = {name: (row["gflop"], row["auroc"]) for name, row in rows.items()}
        (pictures / f"cost-{task}.png").write_bytes(plots.cost_picture(f"{title}: how well, how dear", points))
    console().print(f"pictures in {pictures}")
