"""Which releases the node holds, and which one answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter
from fastapi.responses import JSONResponse

from fedlmd.service.contract import ReleaseSummary, UnknownRelease
from fedlmd.service.events import finite
from fedlmd.service.schema import Choice, ErrorBody, ReleaseBody
from fedlmd.service.state import ServiceOf

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["releases"])


@router.get("/release", response_model=dict[str, Any], responses={503: {"model": ErrorBody}})
async def read_release(service: ServiceOf) -> JSONResponse:
    """The card of the current release: labels, settings, calibration, metrics, how it was trained."""
    answerer = await run_sync(service.host.answerer, None, limiter=service.inference)
    return JSONResponse(finite({**answerer.release.card, "id": answerer.release.id}))


@router.put("/release", responses={404: {"model": ErrorBody}})
def choose_release(choice: Choice, service: ServiceOf) -> ReleaseBody:
    """Make a release the current one."""
    service.host.use(choice.release)
    for release in service.host.releases():
        if release.current:
            return release_body(release)
    raise UnknownRelease(f"release {choice.release!r:.40} has just been removed; choose another")


@router.get("/releases")
def list_releases(service: ServiceOf) -> list[ReleaseBody]:
    """The releases that the node holds, newest first."""
    return [release_body(release) for release in service.host.releases()]


def release_body(release: ReleaseSummary) -> ReleaseBody:
    """A summary as the answer."""
    return ReleaseBody(**{**asdict(release), "labels": list(release.labels), "metrics": finite(release.metrics)})
