"""A run's events as sentences, for the commands that follow a run or print its event log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from math import isfinite
from statistics import fmean
from typing import Any

from fedlmd.cli.show import plain

Event = Mapping[str, Any]

# Workers of an event that are shown one by one.
SHOWN = 12
# What is shown of a worker's metrics after a round: words and key, of a share or number, and of bytes.
FIGURES = {
    "accuracy before": "accuracy",
    "classifier loss": "classifier-loss",
    "thumbnails loss": "thumbnails-loss",
    "denoiser loss": "denoiser-loss",
}
IMAGES = "num-examples"
TRAFFIC = {"received": "bytes-down", "sent": "bytes-up"}
# What the workers send after the rounds, in this order; the merge of denoisers is not in every run.
STEPS = {
    "denoiser": "merging: the denoisers",
    "sums": "calibration, step 1 of 3: sums of each class",
    "moments": "calibration, step 2 of 3: means and standard deviations of the scores",
    "thresholds": "calibration, step 3 of 3: quantiles of the scores",
}
# Characters of a value of an unknown event.
LONGEST = 120


def event_line(event: Event) -> str:
    """A run's event as text with rich's markup: a sentence, and where workers are listed, a line for each."""
    try:
        return SENTENCES.get(event["event"], other)(event)
    except (KeyError, TypeError, AttributeError, ValueError):  # an event of another version, with other fields
        return other(event)


def submitted(event: Event) -> str:
    """A run was made."""
    workers = f", {event['workers']} workers" if "workers" in event else ""
    return f"[bold]submitted[/]: run {plain(event['run'])}, {counted(event['rounds'], 'round')}{workers}"


def started(event: Event) -> str:
    """The server's process has begun."""
    return f"[bold]started[/]: {counted(event['rounds'], 'round')} of training, then calibration"


def waiting(event: Event) -> str:
    """Too few workers are connected."""
    when = f"round {event['round']}" if "round" in event else "the calibration"
    return f"[yellow]waiting[/] for workers before {when}: {event['connected']} of {event['needed']} are connected"


def round_line(event: Event) -> str:
    """A round: how long it took, how long the rounds go on, what comes next, and the workers' figures."""
    left = (event["rounds"] - event["round"]) * event["seconds"]
    rest = f"about {left:.0f} s of rounds left, then calibration" if left else "the last; calibration comes next"
    workers, asked = event["workers"], event.get("asked", len(event["workers"]))
    lines = [f"[bold]round {event['round']}/{event['rounds']}[/]  {event['seconds']:.0f} s, {rest}"]
    if len(workers) > SHOWN:
        lines.append(f"    {len(workers)} of {asked} workers averaged: {many_figures(event)}")
    else:
        workers = sorted(workers, key=lambda worker: str(worker["name"]))
        lines += [f"    {plain(worker['name'])}: {figures_of(worker['metrics'])}" for worker in workers]
    refused = len(event.get("refused", ()))
    missing = {"refused": refused, "did not reply in time": asked - len(workers) - refused}
    if words := [f"{count} {what}" for what, count in missing.items() if count > 0]:
        lines.append(f"    [yellow]of {counted(asked, 'worker')}: {', '.join(words)}[/]")
    return "\n".join(lines)


def figures_of(metrics: Mapping[str, Any]) -> str:
    """A worker's metrics of a round in words."""
    figures = [f"{words} {number(metrics[key])}" for words, key in FIGURES.items() if key in metrics]
    figures += [f"images {number(metrics[IMAGES])}"] if IMAGES in metrics else []
    figures += [f"{words} {megabytes(metrics[key])}" for words, key in TRAFFIC.items() if key in metrics]
    return ", ".join(figures)


def many_figures(event: Event) -> str:
    """The figures of a round with many workers: their means, but the sum of their images."""
    metrics = [worker["metrics"] for worker in event["workers"]]
    means = [f"{words} {number(event['metrics'][key])}" for words, key in FIGURES.items() if key in event["metrics"]]
    images = sum(worker.get(IMAGES, 0) for worker in metrics)
    traffic = {words: [worker[key] for worker in metrics if key in worker] for words, key in TRAFFIC.items()}
    bytes_each = [f"each {words} {megabytes(fmean(sizes))}" for words, sizes in traffic.items() if sizes]
    return ", ".join([f"mean {', '.join(means)}"] * bool(means) + [f"images {images:g}", *bytes_each])


def refused(event: Event) -> str:
    """An update was not averaged."""
    return f"[yellow]refused[/] in round {event['round']}: {plain(event['worker'])}: {plain(event['reason'])}"


def kept(event: Event) -> str:
    """A round did not change the weights."""
    return (
        f"[yellow]round {event['round']} changed nothing[/]: {event['good']} of {counted(event['asked'], 'worker')} "
        f"sent a good update, {event['needed']} needed"
    )


def held(event: Event) -> str:
    """A strategy keeps the updates of a round until it has all."""
    updates, size = counted(event["updates"], "update"), megabytes(event["bytes"])
    return f"[bold]held[/] in round {event['round']}: {updates} in memory, {size}"


def calibrating(event: Event) -> str:
    """The workers replied to a query after the rounds."""
    sizes = event.get("bytes-up", ())
    what = STEPS.get(event["step"], f"calibration: {plain(event['step'])}")
    return f"[bold]{what}[/] from {with_refused(event, f', {megabytes(sum(sizes))} received' if sizes else '')}"


def installed(event: Event) -> str:
    """The workers received the release."""
    return f"[bold]installed[/]: release {plain(event['release'])} at {with_refused(event)}"


def finished(event: Event) -> str:
    """The run ended with a release."""
    metrics, workers, expected = event["metrics"], event.get("workers", 0), event.get("expected", 0)
    share = f", [yellow]with {workers} of {counted(expected, 'worker')}[/]" if workers < expected else ""
    return (
        f"[bold green]finished[/]: release {plain(event['release'])}, accuracy {number(metrics['accuracy'], '.4f')}, "
        f"loss {number(metrics['loss'], '.4f')} on {counted(metrics['images'], 'image')}{share}"
    )


def failed(event: Event) -> str:
    """The run failed."""
    return f"[bold red]failed[/]: {plain(event['reason'])}"


def stopped(event: Event) -> str:
    """The run was stopped."""
    return f"[bold yellow]stopped[/]: {plain(event['reason'])}"


def resumed(event: Event) -> str:
    """The run goes on after a final event."""
    lines = [f"[bold]resumed[/] after round {event['round']} of {event['rounds']}"]
    return "\n".join([*lines, *(f"    {plain(reason)}" for reason in event["skipped"])])


def other(event: Event) -> str:
    """An event of another kind: the sentence or the notes, a list of sentences, that it brings; or its fields."""
    notes = event.get("notes", event.get("sentence"))
    if notes:
        sentences = notes if isinstance(notes, list) else [notes]
        return f"[bold]{plain(event.get('event'))}[/]: " + "\n    ".join(map(plain, sentences))
    fields = {name: value for name, value in event.items() if name not in ("event", "time", "pid")}
    words = ", ".join(f"{plain(name)} {plain(in_short(value))}" for name, value in fields.items())
    return f"[bold]{plain(event.get('event'))}[/]{': ' if words else ''}{words}"


SENTENCES: dict[str, Callable[[Event], str]] = {
    "submitted": submitted,
    "started": started,
    "waiting": waiting,
    "round": round_line,
    "refused": refused,
    "kept": kept,
    "held": held,
    "calibrating": calibrating,
    "installed": installed,
    "finished": finished,
    "failed": failed,
    "stopped": stopped,
    "resumed": resumed,
}


def with_refused(event: Event, more: str = "") -> str:
    """How many of the workers that were asked replied well, and more; below it, those that were refused."""
    refused = event["refused"]
    if len(refused) <= SHOWN:
        lines = [f"{plain(worker['name'])}: {plain(worker['reason'])}" for worker in refused]
    else:
        reasons = Counter(str(worker["reason"]) for worker in refused).most_common(SHOWN)
        lines = [f"{counted(count, 'worker')}: {plain(reason)}" for reason, count in reasons]
    head = f"{len(event['workers'])} of {counted(event['asked'], 'worker')}{more}"
    return "\n".join([head, *(f"    [yellow]refused[/] {line}" for line in lines)])


def in_short(value: object) -> str:
    """A value of an unknown event, without the items of a long list."""
    if isinstance(value, list) and len(value) > SHOWN:
        return f"{len(value)} items"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def counted(count: int, what: str) -> str:
    """A number of things: 1 round, 2 rounds."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def number(value: float | None, form: str = ".5g") -> str:
    """A number of an event, which holds null for what is not finite."""
    return format(value, form) if value is not None and isfinite(value) else "not finite"


def megabytes(size: float) -> str:
    """Bytes in words."""
    return f"{size / 1e6:.2f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
