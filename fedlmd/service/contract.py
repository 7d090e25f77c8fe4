"""What the service needs of its node: ``Host``, which the node implements; the service knows nothing else of it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from fedlmd.calibration import DriftReport
from fedlmd.inference import NearestImage, Prediction, Predictor
from fedlmd.progress import Progress, Work
from fedlmd.service.participants import ConnectionBody, DataBody, WorkerBody
from fedlmd.service.schema import ReleaseSummary, Role, RunOrder, RunSummary, TrainOrder


class Busy(RuntimeError):  # noqa: N818
    """The node does something that excludes what was requested.

    Args:
        message: one sentence.
        retry_after: seconds after which the client may try again, 1 or more.
    """

    def __init__(self, message: str, retry_after: int = 30) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(RuntimeError):  # noqa: N818
    """The node cannot do yet what was requested, such as a prediction before there is a release."""

    retry_after = 30


class UnknownRelease(LookupError):  # noqa: N818
    """No release has this id."""


class UnknownRun(LookupError):  # noqa: N818
    """No run has this id."""


class UnknownJob(LookupError):  # noqa: N818
    """No local training has this id."""


class Cancelled(RuntimeError):  # noqa: N818
    """The local training was cancelled before its end."""


class Refused(ValueError):  # noqa: N818
    """The request cannot be carried out as it is; the message says what is allowed."""


class Runs(Protocol):
    """The federated runs of a server. All methods are called from several threads."""

    def start(self, order: RunOrder) -> str:
        """Start a run and return its id.

        Raises:
            Busy: another run is going on.
            ValueError: on settings or labels that are not possible, with one sentence.
        """

    def resume(self, run: str) -> None:
        """Resume a run that failed or was stopped, after its last good round and with its own plan.

        Raises:
            UnknownRun: when there is no such run.
            Refused: when it is finished, or its plan cannot be read.
            Busy: this run or another one is going on.
        """

    def list(self) -> list[RunSummary]:
        """All runs, newest first."""

    def event_log(self, run: str) -> Sequence[dict[str, Any]]:
        """The events of a run so far.

        Raises:
            UnknownRun: when there is no such run.
        """

    def events(self, run: str) -> Generator[dict[str, Any] | None, None, None]:
        """All events from the first, then new ones as they come, to the run's final event.

        Yields None at least once a second while there is no event, so that the thread of a reader that has disconnected
        is freed.

        Raises:
            UnknownRun: at the call or at the first step.
        """

    def stop(self, run: str) -> None:
        """Ask a run to stop; it is stopped once its events say so. No effect on one that has ended.

        Raises:
            UnknownRun: when there is no such run.
        """


class Releases(Protocol):
    """The releases that a node holds. All methods are called from several threads."""

    @property
    def current(self) -> str | None:
        """Id of the current release; None without one."""

    def list(self) -> list[ReleaseSummary]:
        """All releases, newest first."""

    def predictor(self, release: str | None) -> Predictor:
        """The predictor of a release; loaded once and cached.

        Args:
            release: an id, "pretrained" for the shipped one, None for the current one.

        Raises:
            UnknownRelease: no release has this id.
            Unavailable: there is no current release yet.
        """

    def use(self, release: str) -> None:
        """Make a release ("pretrained" or an id) the current one.

        Raises:
            UnknownRelease: no release has this id.
        """


class Host(Protocol):
    """A node, as the service uses it. All methods are called from several threads at once."""

    name: str
    """The node's name, such as "server" or "client1"."""
    role: Role
    """Whether runs are started here ("server") or images are trained on ("worker")."""

    @property
    def releases(self) -> Releases:
        """The releases that the node holds."""

    @property
    def runs(self) -> Runs | None:
        """The federated runs; None on a worker."""

    @property
    def data(self) -> DataBody | None:
        """State of a worker's own images; None at a server."""

    @property
    def connection(self) -> ConnectionBody | None:
        """How a worker stands with its server; None at a server."""

    def workers(self) -> list[WorkerBody] | None:
        """The workers that announced themselves within the last hour; None at a worker. Takes at most some seconds.

        Raises:
            Unavailable: Flower's server does not respond.
        """

    @property
    def progress(self) -> Progress | None:
        """What the trainer does, for a run or for a local training; None when it is idle."""

    @property
    def watched(self) -> DriftReport | None:
        """State of the current release's drift watch; None before one has begun."""

    def observe(self, prediction: Prediction, calibrated_on: int, image: bytes) -> None:
        """Count a prediction of the default verdict in the drift watch, where the current release made it.

        An image that came lately does not count again. A failure here does not affect the response.

        Args:
            prediction: of the image.
            calibrated_on: number of images of the calibration that its p-value rests on.
            image: its pixels, to recognise one that came before; they are not kept.
        """

    def nearest(self, predictor: Predictor, image: Float[Tensor, "1 c h w"]) -> list[NearestImage]:
        """The node's own training images that are nearest to an image, the nearest first.

        None at a server, and at a worker whose settings do not allow it.

        Args:
            predictor: of the release that explains the image.
            image: in [-1, 1], of the release's size.
        """

    def drift(self) -> DriftReport:
        """State of the current release's drift watch.

        Raises:
            Unavailable: there is no current release yet.
        """

    def reset_drift(self) -> DriftReport:
        """Acknowledge the alarm: watch the current release anew from the next image on.

        Raises:
            Unavailable: there is no current release yet.
        """

    def train(self, order: TrainOrder) -> Work:
        """Train on this node's images and make the result the current release.

        Where possible, errors are raised at the call, not at the first step. The result's metrics are ``accuracy`` in
        [0, 1], ``loss`` in nats, ``images`` (that were measured on), ``seconds`` and ``release`` (id). Closing the
        generator cancels.

        Raises:
            Busy: the trainer is busy.
            ValueError: the labels or the images are not what they must be, with one sentence.
        """


def workers_connected(host: Host) -> int | None:
    """Number of workers connected to a server; None at a worker, and where Flower's server does not respond."""
    try:
        workers = host.workers()
    except Unavailable:
        return None
    return None if workers is None else sum(worker.connected for worker in workers)
