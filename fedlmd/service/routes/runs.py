"""Federated runs: start one at the server, watch it, stop it, go on with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, HTTPException
from fastapi.responses import StreamingResponse

from fedlmd.service.contract import Refused, RunRequest, Runs, RunSummary, UnknownRun
from fedlmd.service.events import Event, event_stream
from fedlmd.service.schema import ErrorBody, RunBody, RunOrder, RunStarted
from fedlmd.service.state import ServiceOf

__all__ = ["router"]

router = APIRouter(prefix="/v1/runs", tags=["federated runs"], responses={404: {"model": ErrorBody}})


def runs_of(service: ServiceOf) -> Runs:
    """The server's runs."""
    runs = service.host.runs()
    if runs is None:
        raise HTTPException(404, f"{service.host.name} is a worker; runs are started at the server")
    return runs


RunsOf = Annotated[Any, Depends(runs_of)]


@router.post(
    "",
    status_code=202,
    responses={
        422: {
            "model": ErrorBody,
            "description": "Settings or labels that are not possible, or a run that is finished.",
        },
        503: {"model": ErrorBody, "description": "Another run is going on; see Retry-After."},
    },
)
def start_run(order: RunOrder, runs: RunsOf) -> RunStarted:
    """Train over all workers, or go on with a run that was interrupted; the run goes on by itself."""
    if order.resume is not None:
        runs.resume(order.resume)
        return started(order.resume)
    labels = tuple(order.labels) if order.labels is not None else None
    try:
        run: str = runs.start(RunRequest(order.settings, labels, order.pretrained_detector))
    except ValueError as error:
        raise Refused(str(error)) from error
    return started(run)


@router.get("")
def list_runs(runs: RunsOf) -> list[RunBody]:
    """All runs, newest first."""
    return [RunBody(**asdict(run)) for run in runs.list()]


@router.get("/{run}")
def read_run(run: str, runs: RunsOf) -> RunBody:
    """How a run stands."""
    return RunBody(**asdict(found(runs, run)))


@router.delete("/{run}", status_code=202)
def stop_run(run: str, runs: RunsOf) -> RunBody:
    """Ask a run to stop; it is stopped once its events say so. One that has ended stays as it is."""
    runs.stop(run)
    return RunBody(**asdict(found(runs, run)))


@router.get("/{run}/events", response_class=StreamingResponse)
async def follow_run(
    run: str,
    runs: RunsOf,
    service: ServiceOf,
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
) -> StreamingResponse:
    """Follow a run as server-sent events, from its first event to its last.

    Each event has a number, from 1, as its `id`; its data is a JSON object with `event` and `time`.
    """
    await run_sync(found, runs, run)
    after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
    return event_stream(numbered(runs.events(run), after, service.streams), service.closing)


def started(run: str) -> RunStarted:
    """The answer to an order that is carried out from now on."""
    return RunStarted(run=run, state="running", follow=f"/v1/runs/{run}/events")


def found(runs: Runs, run: str) -> RunSummary:
    """A run by its id.

    Raises:
        UnknownRun: when there is no such run.
    """
    for summary in runs.list():
        if summary.id == run:
            return summary
    raise UnknownRun(f"there is no run {run!r:.40}; GET /v1/runs lists them")


async def numbered(
    events: Iterator[dict[str, Any] | None], after: int, limiter: CapacityLimiter
) -> AsyncIterator[Event | None]:
    """Events with their numbers, those up to ``after`` left out; each step is waited for in a thread."""
    number = 0
    end: dict[str, Any] = {}  # told from an event by being this very object
    try:
        while (event := await run_sync(next, events, end, limiter=limiter)) is not end:
            if event is None:
                yield None
                continue
            number += 1
            yield Event(number, event) if number > after else None
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()
