"""What the service needs of the node that it speaks for: the node implements ``Host``; no more is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, runtime_checkable

from fedlmd.answer import Answer, Answerer
from fedlmd.detection import DriftReport
from fedlmd.progress import Progress, Result

__all__ = [
    "PRETRAINED",
    "Busy",
    "Host",
    "Refused",
    "ReleaseSummary",
    "Role",
    "RunRequest",
    "RunState",
    "RunSummary",
    "Runs",
    "TrainRequest",
    "Unavailable",
    "UnknownRelease",
    "UnknownRun",
]

Role = Literal["server", "worker"]
RunState = Literal["running", "finished", "failed", "stopped"]

PRETRAINED = "pretrained"
"""The name by which the shipped release is asked for."""


class Busy(RuntimeError):  # noqa: N818
    """The node works on something that excludes what was asked.

    Args:
        message: one sentence.
        retry_after: seconds after which it is worth asking again, 1 or more.
    """

    def __init__(self, message: str, retry_after: int = 30) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(RuntimeError):  # noqa: N818
    """The node cannot do yet what was asked, such as answering before there is a release."""


class UnknownRelease(LookupError):  # noqa: N818
    """No release has this id."""


class UnknownRun(LookupError):  # noqa: N818
    """No run has this id."""


class Refused(ValueError):  # noqa: N818
    """What was asked cannot be done as it was asked; the message says what is allowed."""


@dataclass(frozen=True)
class ReleaseSummary:
    """One release that the node holds.

    Args:
        id: 12 hexadecimal digits.
        current: whether it answers when no release is named.
        pretrained: whether it is the shipped one.
        labels: what its classifier tells apart, in the order of its outputs.
        metrics: figures measured when it was made, such as {"accuracy": 0.99}.
        created: when it was made, with a time zone.
        size: of its weights, in bytes.
    """

    id: str
    current: bool
    pretrained: bool
    labels: tuple[str, ...]
    metrics: dict[str, Any]
    created: datetime
    size: int


@dataclass(frozen=True)
class TrainRequest:
    """An order to train on this node's own images.

    Args:
        labels: at least two, none twice.
        training: source of the training images; None takes the node's own.
        evaluation: source of the images to measure on; None takes the evaluation part of the training source.
        seed: of the training; None takes that of the node's settings.
    """

    labels: tuple[str, ...]
    training: str | None = None
    evaluation: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class RunRequest:
    """An order to train over all workers.

    Args:
        settings: changes to the server's settings, nested as in a run's TOML file.
        labels: what to learn; None takes the settings' labels.
        pretrained_detector: take the detector's denoiser from the shipped release and train the classifier alone.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] | None = None
    pretrained_detector: bool = False


@dataclass(frozen=True)
class RunSummary:
    """How a federated run stands.

    Args:
        id: the run's id.
        state: "running" until it is "finished", "failed" or "stopped".
        round: rounds begun so far, 0 before the first.
        rounds: rounds in all.
        started: with a time zone.
        release: id of the release that it made; None before that.
        reason: one sentence, where it failed.
    """

    id: str
    state: RunState
    round: int
    rounds: int
    started: datetime
    release: str | None = None
    reason: str | None = None


@runtime_checkable
class Runs(Protocol):
    """The federated runs of a server. All methods are called from several threads."""

    def start(self, request: RunRequest) -> str:
        """Start a run and return its id.

        Raises:
            Busy: another run is going on.
            ValueError: on settings or labels that are not possible, with one sentence.
        """

    def resume(self, run: str) -> None:
        """Go on with a run that failed or was stopped, after its last good round and by its own plan.

        Raises:
            UnknownRun: when there is no such run.
            Refused: when it is finished, or its plan cannot be read.
            Busy: this run or another one is going on.
        """

    def list(self) -> list[RunSummary]:
        """All runs, newest first."""

    def diary(self, run: str) -> Sequence[dict[str, Any]]:
        """The events of a run so far.

        Raises:
            UnknownRun: when there is no such run.
        """

    def events(self, run: str) -> Iterator[dict[str, Any] | None]:
        """All events from the first, then new ones as they come, to the run's last.

        Yields None at least once a second while nothing comes, so that a reader who has gone does not hold a thread.

        Raises:
            UnknownRun: at the call or at the first step.
        """

    def stop(self, run: str) -> None:
        """Ask a run to stop; it is stopped once its events say so. One that has ended stays as it is.

        Raises:
            UnknownRun: when there is no such run.
        """


@runtime_checkable
class Host(Protocol):
    """The node, as the service sees it. All methods are called from several threads at once."""

    @property
    def name(self) -> str:
        """The node's name, such as "server" or "client1"."""

    @property
    def role(self) -> Role:
        """Whether runs are started here ("server") or images are trained on ("worker")."""

    @property
    def current(self) -> str | None:
        """Id of the current release; None without one. Read from memory, not from disk."""

    @property
    def progress(self) -> Progress | None:
        """What the trainer is at, for a run or for a local training; None when it rests."""

    def answerer(self, release: str | None) -> Answerer:
        """The answerer of a release; loaded once and kept.

        Args:
            release: an id, "pretrained" for the shipped one, None for the current one.

        Raises:
            UnknownRelease: no release has this id.
            Unavailable: there is no current release yet.
        """

    def releases(self) -> list[ReleaseSummary]:
        """The releases that the node holds, newest first."""

    def use(self, release: str) -> None:
        """Make a release ("pretrained" or an id) the current one.

        Raises:
            UnknownRelease: no release has this id.
        """

    @property
    def watched(self) -> DriftReport | None:
        """How the drift watch of the current release stands; None before one has begun."""

    def observe(self, answer: Answer, calibrated_on: int, image: bytes) -> None:
        """Count an answer of the default verdict in the drift watch, where the current release gave it.

        An image that was asked lately does not count again. Nothing that fails here concerns the answer.

        Args:
            answer: what was said.
            calibrated_on: number of images of the calibration that its p-value rests on.
            image: its pixels, to tell whether it was asked before; they are not kept.
        """

    def drift(self) -> DriftReport:
        """How the drift watch of the current release stands.

        Raises:
            Unavailable: there is no current release yet.
        """

    def reset_drift(self) -> DriftReport:
        """Acknowledge the alarm: watch the current release anew from the next image on.

        Raises:
            Unavailable: there is no current release yet.
        """

    def train(self, request: TrainRequest) -> Iterator[Progress | Result]:
        """Train on this node's images and make the result the current release.

        Where it can, it refuses at the call, not at the first step. The result's metrics are ``accuracy`` in [0, 1],
        ``loss``, ``images`` (that were measured on), ``seconds`` and ``release`` (id). Closing the iterator cancels.

        Raises:
            Busy: the trainer is at work.
            ValueError: the labels or the images are not what they must be, with one sentence.
        """

    def runs(self) -> Runs | None:
        """The federated runs; None on a worker."""
