"""Output of the command line: progress bars, tables, sentences, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from fedlmd.calibration import IN_A_ROW
from fedlmd.progress import Progress, drain
from fedlmd.release import finite

if TYPE_CHECKING:
    from fedlmd.cli.demo.steps import Predicted, Step
    from fedlmd.inference import Report

T = TypeVar("T")


def visible(text: object) -> str:
    r"""A text in which no character changes others.

    An escape sequence, a new line or a change of the direction of writing is shown as Python writes it, such as
    ``\x1b``; all that is printable stays.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def plain(text: object) -> str:
    """A name or sentence of someone else, to be put into markup: printed as it is, no part of it a style or a link."""
    return re.sub(r"(\\*)(\[|$)", literally, visible(text))


def literally(match: re.Match[str]) -> str:
    """A bracket, or the end of a text, with the backslashes before it, as markup that prints the same."""
    backslashes, bracket = match.groups()
    # Rich halves the backslashes before a tag, and here that is an empty one, whatever comes after it.
    return ("\\" * 2 * len(backslashes) + "[none][/none]" if backslashes else "") + ("\\[" if bracket else "")


def error_line(sentence: str) -> None:
    """Print an error that the user can mend, on standard error."""
    console().print(f"[bold red]error:[/] {plain(sentence)}")


def output(*, stderr: bool = False) -> Console:
    """Console for results."""
    return Console(highlight=False, soft_wrap=True, emoji=False, stderr=stderr)


def console_beside(json_file: Path | None) -> Console:
    """Console for a command's tables and sentences: standard output, or standard error where that gets the JSON."""
    return output(stderr=is_output(json_file))


def is_output(json_file: Path | None) -> bool:
    """Whether the JSON goes to standard output: the file is "-"."""
    return str(json_file) == "-"


def console() -> Console:
    """Console for progress and notes: standard error, so that standard output holds nothing but ``--json -``."""
    return output(stderr=True)


def bars() -> Bars:
    """Progress bars with figures, elapsed time and time left; a context manager."""
    return Bars(
        TextColumn("{task.description:<12}", style="cyan", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console(),
    )


def show(bars: Bars, tasks: dict[str, Any], step: Progress) -> None:
    """Update a stage's bar."""
    numbers = {name: value for name, value in step.metrics.items() if value is not None}  # a node sends null for NaN
    figures = visible("  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    if step.stage not in tasks:
        tasks[step.stage] = bars.add_task(visible(step.stage), total=step.total, figures=figures)
    bars.update(tasks[step.stage], completed=step.done, total=step.total, figures=figures)


def watched(work: Generator[Progress, None, T]) -> T:
    """Show the progress of work as bars; returns its result."""
    tasks: dict[str, Any] = {}
    with bars() as shown:
        return drain(work, lambda step: show(shown, tasks, step))


def write(result: dict[str, Any], file: Path | None) -> None:
    """Write a result as JSON to a file, or to standard output for "-"; nothing for None.

    A number that is not finite becomes null. What UTF-8 cannot encode is written as JSON's own escape.
    """
    text = json.dumps(finite(result), indent=2, ensure_ascii=False, allow_nan=False)
    if is_output(file):
        typer.echo(text.encode(errors="backslashreplace"))
    elif file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def with_article(label: object) -> str:
    """A label in a sentence: a digit with an article, any other in quotes."""
    return f"a {label}" if str(label).isdigit() else f"“{plain(label)}”"


def prediction_line(step: Predicted) -> str:
    """A node's prediction in one line."""
    prediction, label = step.prediction, with_article(step.prediction["prediction"])
    verdict = {"known": label, "unknown": "unknown", "uncertain": f"uncertain, perhaps {label}"}[prediction["verdict"]]
    right = "[green]✓[/]" if prediction["is_ood"] != step.known else "[red]✗[/]"
    limit = "no threshold" if prediction["threshold"] is None else f"{prediction['threshold']:.2f}"
    mark = "[yellow]?[/]" if prediction["verdict"] == "uncertain" else right
    return (
        f"  {mark} {plain(step.node)} was shown {with_article(step.label)} ({'known' if step.known else 'unknown'}): "
        f"it says {verdict}, "
        f"score {prediction['score']:.2f} against {limit}, p {prediction['p_value']:.3f}"
    )


def demo_step(bars: Bars, tasks: dict[str, Any], step: Step) -> None:
    """Show a step of the demo; its results end the bars."""
    from fedlmd.cli.demo.steps import Note, Predicted
    from fedlmd.cli.event_lines import round_line

    if isinstance(step, Progress):
        show(bars, tasks, step)
    elif isinstance(step, Note | dict):
        # The stages of the bars have ended.
        while tasks:
            bars.remove_task(tasks.popitem()[1])
        bars.console.print(f"[bold]·[/] {plain(step.text)}" if isinstance(step, Note) else round_line(step))
    elif isinstance(step, Predicted):
        bars.console.print(prediction_line(step))
    else:
        bars.stop()
        out = console()
        out.print(f"\nthe federation's release on test {step.images} that no worker has seen:")
        out.print(report_shown(step.report))
        out.print(f"picture   {plain(step.picture)}\nrelease   {plain(step.release)}")
        out.print(f"{step.figures['seconds']:.0f} s in all, {step.figures['peak_rss_mib']} MiB at most")


def report_shown(report: Report) -> Group:
    """An evaluation: a table of its scores, and below it the other metrics."""
    table = Table("score", show_edge=False)
    for column in ("AUROC", "AUPR", "FPR at 95% TPR"):
        table.add_column(column, justify="right")
    for name, metrics in report.separations.items():
        table.add_row(plain(name), f"{metrics.auroc:.4f}", f"{metrics.aupr:.4f}", f"{metrics.fpr95:.4f}")
    lines = (
        f"accuracy {report.classification.accuracy:.4f} on {report.classification.images} known images\n"
        f"false alarms {report.false_alarm_rate:.4f} of {report.known} known, chosen rate {report.alpha:g}; "
        f"found {report.detection_rate:.4f} of {report.unknown} unknown"
    )
    promise = report.promise
    colour = "green" if promise.kept else "yellow" if promise.rate < promise.low else "red"
    return Group(table, lines, f"[{colour}]{promise.sentence}[/]")


def repeats_line(repeats: dict[str, Any]) -> str:
    """An alarm of a node's watch for repeated images as a sentence."""
    if repeats["in_a_row"] >= IN_A_ROW:
        return f"[red]frozen[/]: the last {repeats['in_a_row']} images are identical; is the camera stuck?"
    if repeats["share"] > 0.5:
        share = f"{repeats['share']:.0%} of the latest 100 images came before"
        return f"[red]repeating[/]: {share}; is a recording played again and again?"
    alarm = repeats["alarm"]
    return f"[yellow]repeating[/] at image {alarm['image']}, {plain(alarm['time'])}, and no longer; see --reset"


def drift_line(watch: dict[str, Any]) -> str:
    """State of a node's drift watch as a sentence."""
    alarm, images = watch["alarm"], watch["images"]
    state = "[green]steady[/]"
    if alarm is not None:
        state = (
            f"[red]drifting[/] since about image {alarm['since']}, noticed at image {alarm['image']}, "
            f"{plain(alarm['time'])}"
        )
    # A node of an earlier version does not watch repeats.
    if (repeats := watch.get("repeats")) and repeats["alarm"] is not None:
        state = repeats_line(repeats) if alarm is None else f"{state}; {repeats_line(repeats)}"
    lowest = watch["below"][0]
    share = f"{lowest['images'] / images:.1%} of them" if images else "none of them"
    return (
        f"{state}; {images} images since {plain(watch['started'])}, {share} with p of at most {lowest['level']:g}, "
        f"where {lowest['limit']:.1%} can be chance"
    )
