"""Train this node on its own images, and watch it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse

from fedlmd.progress import Progress
from fedlmd.service.contract import Refused, TrainRequest, Unavailable
from fedlmd.service.errors import sentence
from fedlmd.service.events import Event, event_stream
from fedlmd.service.jobs import Job, Snapshot
from fedlmd.service.schema import ErrorBody, JobBody, JobStarted, ProgressBody, Trained, TrainOrder
from fedlmd.service.state import Service, ServiceOf

__all__ = ["router"]

router = APIRouter(tags=["training"])

# Seconds that a cancellation waits for the job's present step.
PATIENCE = 2.0


@router.post(
    "/train-worker-on-labels-list",
    response_model=Trained,
    responses={
        202: {"model": JobStarted, "description": "With `wait=false`: the training goes on by itself."},
        409: {"model": ErrorBody, "description": "The training was cancelled."},
        422: {"model": ErrorBody, "description": "The labels or the images are not what they must be."},
        503: {"model": ErrorBody, "description": "The node trains already; see Retry-After."},
    },
)
async def train_worker(
    order: TrainOrder,
    service: ServiceOf,
    wait: Annotated[bool, Query(description="False answers at once and lets the training go on by itself.")] = True,
) -> Trained | JSONResponse:
    """Train the classifier and the detector on this node's images of the listed labels.

    The call lasts as long as the training. When its client leaves, the training goes on as a job.
    """
    job = await start(order, service)
    if not wait:
        body = JobStarted(job=job.id, state="running", follow=f"/v1/jobs/{job.id}/events")
        return JSONResponse(body.model_dump(), 202)
    async for now in job.follow():
        if now.error is not None:
            raise now.error
        if now.metrics is not None:
            return trained(now.metrics)
        if service.closing.is_set():
            break
    raise Unavailable("the node shuts down; order the training again when it is back")


@router.get("/v1/jobs")
def list_jobs(service: ServiceOf) -> list[JobBody]:
    """Local trainings, newest first; about a hundred that have ended are remembered."""
    return [job_body(job.snapshot()) for job in service.jobs.list()]


@router.get("/v1/jobs/{job}", responses={404: {"model": ErrorBody}})
def read_job(job: str, service: ServiceOf) -> JobBody:
    """How a local training stands."""
    return job_body(service.jobs.get(job).snapshot())


@router.get("/v1/jobs/{job}/events", response_class=StreamingResponse, responses={404: {"model": ErrorBody}})
async def follow_job(job: str, service: ServiceOf) -> StreamingResponse:
    """Follow a local training as server-sent events.

    Each event's data is a JSON object whose `event` is `progress` and, last, `finished`, `failed` or `cancelled`. A
    slow reader misses steps, but never the last of a stage.
    """
    return event_stream(job_events(service.jobs.get(job)), service.closing)


@router.delete("/v1/jobs/{job}", responses={404: {"model": ErrorBody}})
async def cancel_job(job: str, service: ServiceOf) -> JobBody:
    """Cancel a local training; one that has ended stays as it is."""
    found = service.jobs.get(job)
    found.cancel()
    try:
        async with asyncio.timeout(PATIENCE):
            async for _ in found.follow():
                pass
    except TimeoutError:
        pass  # it ends after its present step; the answer says that it still runs
    return job_body(found.snapshot())


async def start(order: TrainOrder, service: Service) -> Job:
    """Hand an order to the host."""
    training, evaluation = order.directory_train or order.directory, order.directory_eval or order.directory
    request = TrainRequest(tuple(order.labels_list), training, evaluation, order.seed)
    try:
        work = await run_sync(service.host.train, request)
    except ValueError as error:
        raise Refused(str(error)) from error
    return service.jobs.add(request.labels, work)


async def job_events(job: Job) -> AsyncIterator[Event | None]:
    """A job's progress as it changes, then its end."""
    seen: dict[str, Progress] = {}
    async for now in job.follow():
        for stage in now.stages:
            if seen.get(stage.stage) is not stage:
                seen[stage.stage] = stage
                yield Event(None, {"event": "progress", **progress_body(stage).model_dump()})
        yield None
    end: dict[str, Any] = {"event": now.state}
    if now.metrics is not None:
        end["result"] = trained(now.metrics).model_dump(by_alias=True)
    if now.error is not None:
        end["error"] = sentence(str(now.error))
    yield Event(None, end)


def trained(metrics: dict[str, Any]) -> Trained:
    """A result's metrics as the answer; shares become percent."""
    accuracy, loss = round(100 * metrics["accuracy"], 4), finite(metrics["loss"])
    return Trained(
        accuracy=accuracy,
        loss=loss,
        accuracy_again=accuracy,
        loss_again=loss,
        release=metrics["release"],
        seconds=round(metrics["seconds"], 3),
        images=metrics["images"],
    )


def job_body(now: Snapshot) -> JobBody:
    """A snapshot as the answer."""
    return JobBody(
        id=now.id,
        labels=list(now.labels),
        state=now.state,
        progress=progress_body(now.stages[-1]) if now.stages else None,
        result=trained(now.metrics) if now.metrics is not None else None,
        error=sentence(str(now.error)) if now.error is not None else None,
        started=now.started,
        finished=now.finished,
    )


def progress_body(progress: Progress) -> ProgressBody:
    """Progress as the answer."""
    metrics = {name: finite(value) for name, value in progress.metrics.items()}
    return ProgressBody(stage=progress.stage, done=progress.done, total=progress.total, metrics=metrics)


def finite(value: float) -> float | None:
    """The value, or None where JSON has no number for it."""
    return round(value, 6) if math.isfinite(value) else None
