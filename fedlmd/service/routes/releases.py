"""The releases that the node holds, and which one is current."""

from __future__ import annotations

from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter

from fedlmd.service.contract import UnknownRelease
from fedlmd.service.schema import Choice, ErrorBody, ReleaseSummary
from fedlmd.service.state import ServiceOf

router = APIRouter(prefix="/v1", tags=["releases"])


@router.get("/release", responses={503: {"model": ErrorBody}})
async def read_release(service: ServiceOf) -> dict[str, Any]:
    """The card of the current release: labels, settings, calibration, metrics, how it was trained."""
    predictor = await run_sync(service.host.releases.predictor, None, limiter=service.inference)
    return {**predictor.release.card, "id": predictor.release.id}


@router.put("/release", responses={404: {"model": ErrorBody}})
def choose_release(choice: Choice, service: ServiceOf) -> ReleaseSummary:
    """Make a release the current one."""
    service.host.releases.use(choice.release)
    for release in service.host.releases.list():
        if release.current:
            return release
    raise UnknownRelease(f"release {choice.release!r:.40} has just been removed; choose another")


@router.get("/releases")
def list_releases(service: ServiceOf) -> list[ReleaseSummary]:
    """The releases that the node holds, newest first."""
    return service.host.releases.list()
