"""Output of the command line: progress bars, tables, sentences, JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import Console, Group
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from fedlmd.cli.demo_steps import Note, Predicted, Step
from fedlmd.data import LabelledImages
from fedlmd.inference import Prediction, Report
from fedlmd.progress import Progress, drain

T = TypeVar("T")


def error_line(sentence: str) -> None:
    """Print an error that the user can mend, on standard error."""
    console().print(f"[bold red]error:[/] {escape(sentence)}")


def output(*, stderr: bool = False) -> Console:
    """Console for results."""
    return Console(highlight=False, soft_wrap=True, stderr=stderr)


def label_table(splits: Mapping[str, LabelledImages]) -> Table:
    """How many images of each label there are, by split."""
    table = Table(show_edge=False)
    for column in ("label", *splits):
        table.add_column(column, justify="right")
    counts = [Counter(images.names[index] for index in images.labels.tolist()) for images in splits.values()]
    for label in dict.fromkeys(name for images in splits.values() for name in images.names):
        table.add_row(label, *(str(count[label]) for count in counts))
    return table


def console() -> Console:
    """Console for progress and notes: standard error, so that standard output holds nothing but ``--json -``."""
    return output(stderr=True)


def bars() -> Bars:
    """Progress bars with figures, elapsed time and time left; a context manager."""
    return Bars(
        TextColumn("[cyan]{task.description:<12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(),
    )


def show(bars: Bars, tasks: dict[str, Any], step: Progress) -> None:
    """Update a stage's bar."""
    figures = "  ".join(f"{name} {value:.4g}" for name, value in step.metrics.items())
    if step.stage not in tasks:
        tasks[step.stage] = bars.add_task(step.stage, total=step.total, figures=figures)
    bars.update(tasks[step.stage], completed=step.done, total=step.total, figures=figures)


def watched(work: Generator[Progress, None, T]) -> T:
    """Show the progress of work as bars; returns its result."""
    tasks: dict[str, Any] = {}
    with bars() as shown:
        return drain(work, lambda step: show(shown, tasks, step))


def write(result: dict[str, Any], file: Path | None) -> None:
    """Write a result as JSON to a file, or to standard output for "-"; nothing for None."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    if file is not None and str(file) == "-":
        typer.echo(text)
    elif file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")


# What is shown of a worker's metrics after a round: words and key, of a share or number, and of bytes.
FIGURES = {
    "accuracy before": "accuracy",
    "classifier loss": "classifier-loss",
    "denoiser loss": "denoiser-loss",
    "images": "num-examples",
}
TRAFFIC = {"received": "bytes-down", "sent": "bytes-up"}


def round_line(event: Mapping[str, Any]) -> str:
    """A round's event in one line for each worker."""
    left = (event["rounds"] - event["round"]) * event["seconds"]
    rest = f"about {left:.0f} s of rounds left" if left else "the last"
    lines = [f"[bold]round {event['round']}/{event['rounds']}[/]  {event['seconds']:.0f} s, {rest}"]
    for worker in sorted(event["workers"], key=lambda worker: str(worker["name"])):
        metrics = worker["metrics"]
        figures = [f"{words} {metrics[key]:.5g}" for words, key in FIGURES.items() if key in metrics]
        figures += [f"{words} {metrics[key] / 1e6:.2f} MB" for words, key in TRAFFIC.items() if key in metrics]
        lines.append(f"    {worker['name']}: {', '.join(figures)}")
    return "\n".join(lines)


def prediction_line(step: Predicted) -> str:
    """A node's prediction in one line."""
    prediction, label = step.prediction, f"a {step.prediction['prediction']}"
    verdict = {"known": label, "unknown": "unknown", "uncertain": f"uncertain, perhaps {label}"}[prediction["verdict"]]
    right = "[green]✓[/]" if prediction["is_ood"] != step.known else "[red]✗[/]"
    limit = "no threshold" if prediction["threshold"] is None else f"{prediction['threshold']:.2f}"
    mark = "[yellow]?[/]" if prediction["verdict"] == "uncertain" else right
    return (
        f"  {mark} {step.node} was shown a {step.label} ({'known' if step.known else 'unknown'}): it says {verdict}, "
        f"score {prediction['score']:.2f} against {limit}, p {prediction['p_value']:.3f}"
    )


def demo_step(bars: Bars, tasks: dict[str, Any], step: Step) -> None:
    """Show a step of the demo; its results end the bars."""
    if isinstance(step, Progress):
        show(bars, tasks, step)
    elif isinstance(step, Note | dict):
        # The stages of the bars have ended.
        while tasks:
            bars.remove_task(tasks.popitem()[1])
        bars.console.print(f"[bold]·[/] {step.text}" if isinstance(step, Note) else round_line(step))
    elif isinstance(step, Predicted):
        bars.console.print(prediction_line(step))
    else:
        bars.stop()
        out = console()
        out.print("\nthe federation's release on test digits that no worker has seen:")
        out.print(report_shown(step.report))
        out.print(f"picture   {step.picture}\nrelease   {step.release}")
        out.print(f"{step.figures['seconds']:.0f} s in all, {step.figures['peak_rss_mib']} MiB at most")


def report_shown(report: Report) -> Group:
    """An evaluation: a table of its scores, and below it the other metrics."""
    table = Table("score", show_edge=False)
    for column in ("AUROC", "AUPR", "FPR at 95% TPR"):
        table.add_column(column, justify="right")
    for name, metrics in report.separations.items():
        table.add_row(name, f"{metrics.auroc:.4f}", f"{metrics.aupr:.4f}", f"{metrics.fpr95:.4f}")
    lines = (
        f"accuracy {report.classification.accuracy:.4f} on {report.classification.images} known images\n"
        f"false alarms {report.false_alarm_rate:.4f} of {report.known} known, chosen rate {report.alpha:g}; "
        f"found {report.detection_rate:.4f} of {report.unknown} unknown"
    )
    return Group(table, lines)


def in_words(prediction: Prediction) -> str:
    """A prediction as a sentence."""
    label = f"a {prediction.prediction}"
    what = {"known": label, "unknown": f"unknown, closest to {label}", "uncertain": f"uncertain, perhaps {label}"}
    limit = "none" if prediction.threshold is None else f"{prediction.threshold:.2f}"
    return f"{what[prediction.verdict]} (score {prediction.score:.2f}, threshold {limit}, p {prediction.p_value:.3f})"


def drift_line(watch: dict[str, Any]) -> str:
    """State of a node's drift watch as a sentence."""
    alarm, images = watch["alarm"], watch["images"]
    state = "[green]steady[/]"
    if alarm is not None:
        state = (
            f"[red]drifting[/] since about image {alarm['since']}, noticed at image {alarm['image']}, {alarm['time']}"
        )
    lowest = watch["below"][0]
    share = f"{lowest['images'] / images:.1%} of them" if images else "none of them"
    return (
        f"{state}; {images} images since {watch['started']}, {share} with p of at most {lowest['level']:g}, where "
        f"{lowest['limit']:.1%} can be chance"
    )


def event_line(event: dict[str, Any]) -> str:
    """A run's event as text."""
    if event["event"] == "round":
        return round_line(event)
    if event["event"] == "resumed":
        lines = [f"[bold]resumed[/] after round {event['round']} of {event['rounds']}"]
        return "\n".join([*lines, *(f"    {reason}" for reason in event["skipped"])])
    rest = {name: value for name, value in event.items() if name not in ("event", "time", "pid")}
    return f"[bold]{event['event']}[/] {json.dumps(rest, ensure_ascii=False)}"
