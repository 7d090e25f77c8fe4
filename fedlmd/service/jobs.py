"""Local trainings as jobs: each is drained in a thread of its own, and anyone may look at it or follow it."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, final

from fedlmd.artifacts import ReleaseError
from fedlmd.progress import Progress, Result
from fedlmd.service.contract import Busy, Refused, Unavailable

__all__ = ["Cancelled", "Job", "JobState", "Jobs", "Snapshot", "UnknownJob", "Work"]

log = logging.getLogger(__name__)

JobState = Literal["running", "finished", "failed", "cancelled"]
Work = Iterator[Progress | Result]

# Finished jobs that are remembered.
KEPT = 100
# Seconds between two looks at a running job: training takes some hundred steps in that time.
POLL = 0.05


class UnknownJob(LookupError):  # noqa: N818
    """No job has this id."""


class Cancelled(RuntimeError):  # noqa: N818
    """The job was cancelled before its end."""


class Failed(RuntimeError):  # noqa: N818
    """The work broke in a way that the caller cannot mend."""


@dataclass(frozen=True)
class Snapshot:
    """How a job stands at one moment.

    Args:
        id: the job's id.
        labels: what is learnt.
        state: "running" until it is "finished", "failed" or "cancelled".
        stages: the latest progress of each stage that was begun, the latest stage last.
        metrics: the result's, once it is finished.
        error: what went wrong, or that it was cancelled.
        started: in UTC.
        finished: in UTC; None while it runs.
    """

    id: str
    labels: tuple[str, ...]
    state: JobState
    stages: tuple[Progress, ...]
    metrics: dict[str, Any] | None
    error: Exception | None
    started: datetime
    finished: datetime | None


@final
class Job:
    """One piece of work in a thread of its own.

    Args:
        labels: what is learnt.
        work: yields its progress and, last, its result.
    """

    def __init__(self, labels: tuple[str, ...], work: Work) -> None:
        self.id = uuid.uuid4().hex[:12]
        self.labels, self.work = labels, work
        self.started = datetime.now(UTC)
        self.finished: datetime | None = None
        self.lock, self.cancelled = threading.Lock(), threading.Event()
        self.state: JobState = "running"
        self.stages: dict[str, Progress] = {}
        self.metrics: dict[str, Any] | None = None
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self.run, name=f"job-{self.id}", daemon=True)

    def cancel(self) -> None:
        """Stop the work after its present step; a job that has ended stays as it is."""
        self.cancelled.set()

    def snapshot(self) -> Snapshot:
        """How the job stands now."""
        with self.lock:
            stages = tuple(self.stages.values())
            return Snapshot(
                self.id, self.labels, self.state, stages, self.metrics, self.error, self.started, self.finished
            )

    async def follow(self) -> AsyncIterator[Snapshot]:
        """Look at the job now and every moment until its end; the last snapshot is the one that has ended."""
        while True:
            now = self.snapshot()
            yield now
            if now.state != "running":
                return
            await asyncio.sleep(POLL)

    def run(self) -> None:
        """Drain the work; the thread's target."""
        try:
            metrics = self.drain()
        except Exception as error:
            self.end("cancelled" if isinstance(error, Cancelled) else "failed", error=explained(error))
        else:
            self.end("finished", metrics=metrics)

    def drain(self) -> dict[str, Any]:
        """Take the work's steps to the result's metrics."""
        try:
            for step in self.work:
                if isinstance(step, Result):
                    return step.metrics
                if self.cancelled.is_set():
                    raise Cancelled("the training was cancelled")
                with self.lock:
                    self.stages.pop(step.stage, None)
                    self.stages[step.stage] = step
        finally:
            close = getattr(self.work, "close", None)
            if close is not None:
                close()
        raise Failed("the training ended without a result")

    def end(self, state: JobState, *, metrics: dict[str, Any] | None = None, error: Exception | None = None) -> None:
        """Note how it ended."""
        with self.lock:
            self.state, self.metrics, self.error, self.finished = state, metrics, error, datetime.now(UTC)


def explained(error: Exception) -> Exception:
    """The error as the caller may see it: what is not meant for them goes to the log alone."""
    if isinstance(error, (Busy, Unavailable, Cancelled)):
        return error
    if isinstance(error, ValueError) and not isinstance(error, ReleaseError) and str(error):
        return Refused(str(error))
    log.error("a training failed", exc_info=error)
    return error if isinstance(error, Failed) else Failed("the training failed unexpectedly; the node's log says why")


@final
class Jobs:
    """The jobs of a node: all that run, and the latest that have ended."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.lock = threading.Lock()

    def add(self, labels: tuple[str, ...], work: Work) -> Job:
        """Start work as a job."""
        job = Job(labels, work)
        with self.lock:
            self.jobs[job.id] = job
            ended = [old.id for old in self.jobs.values() if old is not job and old.state != "running"]
            for old in ended[: max(0, len(ended) - KEPT)]:
                del self.jobs[old]
        job.thread.start()
        return job

    def get(self, job: str) -> Job:
        """A job by its id.

        Raises:
            UnknownJob: when none has it, or it ended long ago.
        """
        with self.lock:
            found = self.jobs.get(job)
        if found is None:
            raise UnknownJob(f"there is no job {job!r:.40}; GET /v1/jobs lists those that are remembered")
        return found

    def list(self) -> list[Job]:
        """The jobs, newest first."""
        with self.lock:
            return list(reversed(self.jobs.values()))

    def close(self) -> None:
        """Cancel what runs, and give it a moment to end."""
        running = [job for job in self.list() if job.state == "running"]
        for job in running:
            job.cancel()
        for job in running:
            job.thread.join(timeout=1)
