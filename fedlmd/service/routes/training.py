"""Train this node on its own images, and follow the training."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, StreamingResponse

from fedlmd.service.contract import Refused, Unavailable
from fedlmd.service.events import Event, event_stream
from fedlmd.service.jobs import Job
from fedlmd.service.schema import ErrorBody, JobBody, JobStarted, Trained, TrainOrder
from fedlmd.service.state import Service, ServiceOf

router = APIRouter(tags=["training"])

# Seconds that a cancellation waits for the job's present step.
PATIENCE = 2.0


@router.post(
    "/train-worker-on-labels-list",
    response_model=Trained,
    responses={
        202: {"model": JobStarted, "description": "With `wait=false`: the training has started."},
        409: {"model": ErrorBody, "description": "The training was cancelled."},
        422: {"model": ErrorBody, "description": "The labels or the images are not what they must be."},
        503: {"model": ErrorBody, "description": "The node trains already; see Retry-After."},
    },
)
async def train_worker(
    order: TrainOrder,
    service: ServiceOf,
    wait: Annotated[bool, Query(description="False responds at once; the training continues as a job.")] = True,
) -> Trained | JSONResponse | None:
    """Train the classifier and the detector on this node's images of the listed labels.

    The call lasts as long as the training. When its client disconnects, the training continues as a job.
    """
    job = await start(order, service)
    if not wait:
        body = JobStarted(job=job.id, state="running", follow=f"/v1/jobs/{job.id}/events")
        return JSONResponse(body.model_dump(), 202)
    async for _ in job.follow():
        if job.running and service.closing.is_set():
            raise Unavailable("the node shuts down; order the training again when it is back")
    if job.failure is not None:
        raise job.failure
    return job.now.result


@router.get("/v1/jobs")
def list_jobs(service: ServiceOf) -> list[JobBody]:
    """Local trainings, newest first; about a hundred that have ended are kept."""
    return [job.now for job in service.jobs.list()]


@router.get("/v1/jobs/{job}", responses={404: {"model": ErrorBody}})
def read_job(job: str, service: ServiceOf) -> JobBody:
    """State of a local training."""
    return service.jobs.get(job).now


@router.get("/v1/jobs/{job}/events", response_class=StreamingResponse, responses={404: {"model": ErrorBody}})
async def follow_job(job: str, service: ServiceOf) -> StreamingResponse:
    """Follow a local training as server-sent events.

    Each event's data is a JSON object whose `event` is `progress` and, last, `finished`, `failed` or `cancelled`. A
    slow reader misses steps, but never the last one of a stage.
    """
    return event_stream(job_events(service.jobs.get(job)), service.closing)


@router.delete("/v1/jobs/{job}", responses={404: {"model": ErrorBody}})
async def cancel_job(job: str, service: ServiceOf) -> JobBody:
    """Cancel a local training; no effect on one that has ended."""
    ending = service.jobs.get(job)
    ending.cancelled.set()
    # It ends after its present step; where that takes longer, the response says that it is running.
    await run_sync(ending.thread.join, PATIENCE)
    return ending.now


async def start(order: TrainOrder, service: Service) -> Job:
    """Hand an order to the host."""
    try:
        work = await run_sync(service.host.train, order)
    except ValueError as error:
        raise Refused(str(error)) from error
    return service.jobs.add(order.labels_list, work)


async def job_events(job: Job) -> AsyncIterator[Event | None]:
    """A job's progress as it changes, then its end."""
    async for step in job.follow():
        yield Event(None, {"event": "progress", **step.model_dump()}) if step else None
    end: dict[str, Any] = {"event": job.now.state}
    if job.now.result is not None:
        end["result"] = job.now.result.model_dump(by_alias=True)
    if job.now.error is not None:
        end["error"] = job.now.error
    yield Event(None, end)
