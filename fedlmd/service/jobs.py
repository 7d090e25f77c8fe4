"""Local trainings as jobs: each runs in its own thread; its state can be read and followed."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, final

from fedlmd.progress import Progress, Work, drain
from fedlmd.release import ReleaseError
from fedlmd.service.contract import Busy, Cancelled, Refused, Unavailable, UnknownJob
from fedlmd.service.errors import sentence
from fedlmd.service.schema import JobBody, JobState, ProgressBody, Trained

log = logging.getLogger(__name__)

# Jobs that are kept in the list after their end.
KEPT = 100
# Seconds between two looks at a job that is followed.
POLL = 0.05


class Failed(RuntimeError):  # noqa: N818
    """The work failed for a reason that the caller cannot change."""


@final
class Job:
    """One piece of work in its own thread, the only one that changes the attributes.

    Args:
        labels: of the classifier that is trained.
        work: the training.

    Attributes:
        now: state of the job.
        stages: the latest progress of each stage that has begun, by its name, the latest stage last.
        failure: what went wrong, or that it was cancelled.
    """

    def __init__(self, labels: list[str], work: Work) -> None:
        self.id, self.work = uuid.uuid4().hex[:12], work
        self.now = JobBody(
            id=self.id,
            labels=labels,
            state="running",
            progress=None,
            result=None,
            error=None,
            started=datetime.now(UTC),
            finished=None,
        )
        self.stages: dict[str, ProgressBody] = {}
        self.failure: Exception | None = None
        self.cancelled = threading.Event()
        self.thread = threading.Thread(target=self.run, name=f"job-{self.id}", daemon=True)

    @property
    def running(self) -> bool:
        """Whether the work has not ended."""
        return self.now.state == "running"

    async def follow(self) -> AsyncIterator[ProgressBody | None]:
        """The progress of each stage as it changes, and None at short intervals; ends with the job."""
        seen: dict[str, ProgressBody] = {}
        running = True
        while running:
            running, stages = self.running, self.stages
            for name, progress in stages.items():
                if seen.get(name) is not progress:
                    yield progress
            seen = stages
            yield None
            if running:
                await asyncio.sleep(POLL)

    def run(self) -> None:
        """Drain the work; the thread's target."""
        try:
            result = Trained.of(drain(self.work, self.note).metrics)
        except Exception as error:
            self.failure = explained(error)
            state: JobState = "cancelled" if isinstance(error, Cancelled) else "failed"
            self.update(state=state, finished=datetime.now(UTC), error=sentence(str(self.failure)))
        else:
            self.update(state="finished", finished=datetime.now(UTC), result=result)

    def note(self, step: Progress) -> None:
        """Record a step. Raises Cancelled once ``cancelled`` is set."""
        if self.cancelled.is_set():
            raise Cancelled("the training was cancelled")
        progress = ProgressBody.of(step)
        earlier = {name: stage for name, stage in self.stages.items() if name != step.stage}
        self.stages = {**earlier, step.stage: progress}
        self.update(progress=progress)

    def update(self, **fields: Any) -> None:  # noqa: ANN401 - fields of JobBody
        """Replace the state by one with other fields, so that readers never see half of a change."""
        self.now = self.now.model_copy(update=fields)


def explained(error: Exception) -> Exception:
    """The error as the caller may see it: unexpected ones are written to the log and replaced."""
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

    def add(self, labels: list[str], work: Work) -> Job:
        """Start work as a job."""
        job = Job(labels, work)
        job.thread.start()
        with self.lock:
            ended = [old.id for old in self.jobs.values() if not old.running]
            for old in ended[: max(0, len(ended) - KEPT)]:
                del self.jobs[old]
            self.jobs[job.id] = job
        return job

    def get(self, job: str) -> Job:
        """A job by its id.

        Raises:
            UnknownJob: when none has it, or it ended so long ago that it was dropped.
        """
        try:
            return self.jobs[job]
        except KeyError:
            raise UnknownJob(f"there is no job {job!r:.40}; GET /v1/jobs lists those that are remembered") from None

    def list(self) -> list[Job]:
        """The jobs, newest first."""
        with self.lock:
            return list(reversed(self.jobs.values()))

    def close(self) -> None:
        """Cancel the running jobs and wait up to a second for each."""
        running = [job for job in self.list() if job.running]
        for job in running:
            job.cancelled.set()
        for job in running:
            job.thread.join(timeout=1)
