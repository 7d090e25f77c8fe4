"""A run's events as curves for TensorBoard, with the optional package ``tensorboardX``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, final

ALL = "all"
"""Stands in a tag for the workers' mean, where a worker's name stands otherwise."""


class Scalar(NamedTuple):
    """One point of a curve: ``classifier-loss/client1``, its value after a round."""

    tag: str
    value: float


def scalars(event: Mapping[str, Any]) -> Iterator[Scalar]:
    """The points that an event adds: each worker's figures of a round, their mean, and the round's own figures.

    A tag begins with the figure, so that TensorBoard puts the curves of all workers side by side.
    """
    if event["event"] == "round":
        workers = {worker["name"]: worker["metrics"] for worker in event["workers"]}
        yield from points("", {**workers, ALL: event["metrics"]})
        yield Scalar("round/seconds", event["seconds"])
        yield Scalar("round/asked", event["asked"])
        yield Scalar("round/workers", len(event["workers"]))
        yield Scalar("round/refused", len(event["refused"]))
    elif event["event"] == "finished":
        yield from points("release-", {**event["metrics"].get("workers", {}), ALL: event["metrics"]})


def points(prefix: str, figures: Mapping[str, Mapping[str, Any]]) -> Iterator[Scalar]:
    """The plain numbers of each worker's figures."""
    for name, metrics in figures.items():
        numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        yield from (Scalar(f"{prefix}{key}/{name}", value) for key, value in numbers.items())


@final
class TensorBoard:
    """A folder that TensorBoard reads, with a subfolder for each run.

    Args:
        folder: made when it is missing.

    Raises:
        ValueError: when the optional package is missing; the text says how to install it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter  # noqa: PLC0415 - an optional extra
        except ImportError:
            raise ValueError("TensorBoard's files need the extra: pip install 'fedlmd[tensorboard]'") from None
        self.folder, self.writer = folder, SummaryWriter

    def log(self, run: str, events: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Write a run's events and pass them on; points that were written of the run before are superseded.

        Args:
            run: its id.
            events: from the first.
        """
        attempt, last = 0, 0
        writer = self.begin(run, attempt, last)
        try:
            for event in events:
                if event["event"] == "resumed":
                    writer.close()
                    attempt, last = attempt + 1, event["round"]
                    writer = self.begin(run, attempt, last)
                last = event.get("round", last)
                for scalar in scalars(event):
                    when = datetime.fromisoformat(event["time"]).timestamp()
                    writer.add_scalar(scalar.tag, scalar.value, last, walltime=when)
                writer.flush()
                yield event
        finally:
            writer.close()

    def begin(self, run: str, attempt: int, last: int) -> Any:  # noqa: ANN401 - of an optional package
        """A new file, which supersedes all points after the round ``last`` in earlier files."""
        return self.writer(str(self.folder / run), purge_step=last + 1, filename_suffix=f".{attempt}")
