"""What the command line shows: progress bars, tables, sentences, JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from fedlmd.answer import Answer
from fedlmd.demo import Asked, RoundDone
from fedlmd.evaluation import Report
from fedlmd.progress import Progress

__all__ = [
    "asked_line",
    "bars",
    "clear",
    "console",
    "drift_line",
    "event_line",
    "fail",
    "in_words",
    "report_lines",
    "report_table",
    "round_line",
    "show",
    "watched",
    "write",
]


def fail(sentence: str) -> NoReturn:
    """End with a sentence."""
    Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", highlight=False, soft_wrap=True)
    sys.exit(1)


def console() -> Console:
    """Where people read: standard error, so that standard output stays clean for --json -."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars with figures, elapsed time and time left."""
    columns = (
        TextColumn("[cyan]{task.description:<12}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console(), transient=False) as shown:
        yield shown


def show(bars: Bars, tasks: dict[str, Any], step: Progress) -> None:
    """Bring a stage's bar up to date."""
    figures = "  ".join(f"{name} {value:.4g}" for name, value in step.metrics.items())
    if step.stage not in tasks:
        tasks[step.stage] = bars.add_task(step.stage, total=step.total, figures=figures)
    bars.update(tasks[step.stage], completed=step.done, total=step.total, figures=figures)


def watched(steps: Iterable[Progress | Any]) -> Iterator[Any]:
    """Show progress as bars; yield everything else."""
    with bars() as shown:
        tasks: dict[str, Any] = {}
        for step in steps:
            if isinstance(step, Progress):
                show(shown, tasks, step)
            else:
                yield step


def write(result: dict[str, Any], file: Path | None) -> None:
    """Give a result as JSON, where that was asked for."""
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if file is not None and str(file) == "-":
        typer.echo(text, nl=False)
    elif file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def round_line(step: RoundDone) -> str:
    """A round in one line for each worker."""
    left = (step.rounds - step.number) * step.seconds
    head = f"[bold]round {step.number}/{step.rounds}[/]  {step.seconds:.0f} s"
    head += f", about {left:.0f} s of rounds left" if left else ", the last"
    lines = [head]
    shown = {
        "accuracy before": "accuracy",
        "classifier loss": "classifier-loss",
        "denoiser loss": "denoiser-loss",
        "images": "num-examples",
    }
    for worker in sorted(step.workers, key=lambda of: str(of["name"])):
        figures = (f"{words} {worker['metrics'][key]:.5g}" for words, key in shown.items() if key in worker["metrics"])
        lines.append(f"    {worker['name']}: {', '.join([*figures, *traffic(worker['metrics'])])}")
    return "\n".join(lines)


def traffic(metrics: dict[str, Any]) -> Iterator[str]:
    """What a worker got and sent in a round, where its metrics say so."""
    for words, key in {"received": "bytes-down", "sent": "bytes-up"}.items():
        if key in metrics:
            yield f"{words} {metrics[key] / 1e6:.2f} MB"


def asked_line(step: Asked) -> str:
    """An answer in one line."""
    said, label = step.answer, f"a {step.answer['prediction']}"
    verdict = {"known": label, "unknown": "unknown", "uncertain": f"uncertain, perhaps {label}"}[said["verdict"]]
    right = "[green]✓[/]" if said["is_ood"] != step.known else "[red]✗[/]"
    mark = "[yellow]?[/]" if said["verdict"] == "uncertain" else right
    return (
        f"  {mark} {step.node} was shown a {step.label} ({'known' if step.known else 'unknown'}): it says {verdict}, "
        f"score {said['score']:.2f} against {said['threshold']:.2f}, p {said['p_value']:.3f}"
    )


def clear(bars: Bars, tasks: dict[str, Any]) -> None:
    """Take all bars away: what they showed has ended."""
    for task in tasks.values():
        bars.remove_task(task)
    tasks.clear()


def report_table(report: Report) -> Table:
    """An evaluation as a table."""
    table = Table(show_edge=False)
    for column in ("score", "AUROC", "AUPR", "FPR at 95% TPR"):
        table.add_column(column, justify="left" if column == "score" else "right")
    for name, of in report.separations.items():
        table.add_row(name, f"{of.auroc:.4f}", f"{of.aupr:.4f}", f"{of.fpr95:.4f}")
    return table


def report_lines(report: Report) -> str:
    """What a table of an evaluation does not say."""
    return (
        f"accuracy {report.classification.accuracy:.4f} on {report.classification.images} known images\n"
        f"false alarms {report.false_alarm_rate:.4f} of {report.known} known, chosen rate {report.alpha:g}; "
        f"found {report.detection_rate:.4f} of {report.unknown} unknown"
    )


def in_words(answer: Answer) -> str:
    """An answer as a sentence."""
    label = f"a {answer.prediction}"
    what = {"known": label, "unknown": f"unknown, closest to {label}", "uncertain": f"uncertain, perhaps {label}"}
    return (
        f"{what[answer.verdict]} (score {answer.score:.2f}, threshold {answer.threshold:.2f}, p {answer.p_value:.3f})"
    )


def drift_line(watch: dict[str, Any]) -> str:
    """How a node's drift watch stands, in words."""
    alarm, images = watch["alarm"], watch["images"]
    said = "[green]steady[/]"
    if alarm is not None:
        said = (
            f"[red]drifting[/] since about image {alarm['since']}, noticed at image {alarm['image']}, {alarm['time']}"
        )
    strange = watch["below"][0]
    seen = f"{strange['images'] / images:.1%} of them" if images else "none of them"
    return (
        f"{said}; {images} images since {watch['started']}, {seen} with p of at most {strange['level']:g}, where "
        f"{strange['limit']:.1%} can be chance"
    )


def event_line(event: dict[str, Any]) -> str:
    """A run's event in words."""
    if event["event"] == "round":
        of = (event["round"], event["rounds"], event["seconds"], event["workers"], event["metrics"])
        return round_line(RoundDone(*of))
    if event["event"] == "resumed":
        lines = [f"[bold]resumed[/] after round {event['round']} of {event['rounds']}"]
        return "\n".join([*lines, *(f"    {reason}" for reason in event["skipped"])])
    rest = {name: value for name, value in event.items() if name not in ("event", "time", "pid")}
    return f"[bold]{event['event']}[/] {json.dumps(rest, ensure_ascii=False)}"
