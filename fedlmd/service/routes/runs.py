"""Federated runs: start one at the server, follow it, stop it, resume it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import Annotated, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Header, HTTPException
from fastapi.responses import StreamingResponse

from fedlmd.service.contract import Refused, Runs, UnknownRun
from fedlmd.service.events import Event, event_stream
from fedlmd.service.schema import ErrorBody, RunOrder, RunStarted, RunSummary
from fedlmd.service.state import ServiceOf

router = APIRouter(prefix="/v1/runs", tags=["federated runs"], responses={404: {"model": ErrorBody}})


def runs_of(service: ServiceOf) -> Runs:
    """The server's runs."""
    if service.host.runs is None:
        raise HTTPException(404, f"{service.host.name} is a worker; runs are started at the server")
    return service.host.runs


RunsOf = Annotated[Runs, Depends(runs_of)]


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
    """Train over all workers, or resume a run that was interrupted; returns before the run ends."""
    if order.resume is not None:
        runs.resume(order.resume)
        return started(order.resume)
    try:
        return started(runs.start(order))
    except ValueError as error:
        raise Refused(str(error)) from error


@router.get("")
def list_runs(runs: RunsOf) -> list[RunSummary]:
    """All runs, newest first."""
    return runs.list()


@router.get("/{run}")
def read_run(run: str, runs: RunsOf) -> RunSummary:
    """State of a run."""
    return find(runs, run)


@router.delete("/{run}", status_code=202)
def stop_run(run: str, runs: RunsOf) -> RunSummary:
    """Ask a run to stop; it is stopped once its events say so. No effect on one that has ended."""
    runs.stop(run)
    return find(runs, run)


@router.get("/{run}/events", response_class=StreamingResponse)
async def follow_run(
    run: str,
    runs: RunsOf,
    service: ServiceOf,
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
) -> StreamingResponse:
    """Follow a run as server-sent events, from the first event to the final one.

    Each event has a number, from 1, as its `id`; its data is a JSON object with `event` and `time`.
    """
    await run_sync(find, runs, run)
    after = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else 0
    return event_stream(numbered(runs.events(run), after, service.streams), service.closing)


def started(run: str) -> RunStarted:
    """The response to an accepted order."""
    return RunStarted(run=run, state="running", follow=f"/v1/runs/{run}/events")


def find(runs: Runs, run: str) -> RunSummary:
    """A run by its id.

    Raises:
        UnknownRun: when there is no such run.
    """
    for summary in runs.list():
        if summary.id == run:
            return summary
    raise UnknownRun(f"there is no run {run!r:.40}; GET /v1/runs lists them")


async def numbered(
    events: Generator[dict[str, Any] | None, None, None], after: int, limiter: CapacityLimiter
) -> AsyncIterator[Event | None]:
    """Events with their numbers, without those up to ``after``; a thread waits for each step."""
    number = 0
    end: dict[str, Any] = {}  # compared by identity: no event is this object
    try:
        while (event := await run_sync(next, events, end, limiter=limiter)) is not end:
            if event is None:
                yield None
                continue
            number += 1
            yield Event(number, event) if number > after else None
    finally:
        events.close()
