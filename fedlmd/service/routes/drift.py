"""Whether the images that the node is asked about are still like those that its release was calibrated on."""

from __future__ import annotations

from dataclasses import asdict

from anyio.to_thread import run_sync
from fastapi import APIRouter

from fedlmd.service.schema import DriftBody, ErrorBody
from fedlmd.service.state import ServiceOf

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["drift"], responses={503: {"model": ErrorBody}})


@router.get("/drift")
async def read_drift(service: ServiceOf) -> DriftBody:
    """How the drift watch stands: a sequential test of the p-values that the current release's verdict gives.

    An alarm means that strange images come more often than the calibration can account for. It does not say why.
    """
    return DriftBody(**asdict(await run_sync(service.host.drift, limiter=service.inference)))


@router.delete("/drift")
async def reset_drift(service: ServiceOf) -> DriftBody:
    """Acknowledge the alarm and watch anew from the next image on; the answer is the watch that has begun."""
    return DriftBody(**asdict(await run_sync(service.host.reset_drift, limiter=service.inference)))
