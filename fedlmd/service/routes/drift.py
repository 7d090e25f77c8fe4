"""The drift watch: whether the images still are like those that the release was calibrated on."""

from __future__ import annotations

from anyio.to_thread import run_sync
from fastapi import APIRouter

from fedlmd.calibration import DriftReport
from fedlmd.service.schema import ErrorBody
from fedlmd.service.state import ServiceOf

router = APIRouter(prefix="/v1", tags=["drift"], responses={503: {"model": ErrorBody}})


@router.get("/drift")
async def read_drift(service: ServiceOf) -> DriftReport:
    """State of the drift watch: a sequential test of the p-values of the current release's verdict.

    An alarm means that low p-values come more often than the calibration explains. It does not say why. `repeats` has
    an alarm of its own, for a camera that sends the same image again and again.
    """
    return await run_sync(service.host.drift, limiter=service.inference)


@router.delete("/drift")
async def reset_drift(service: ServiceOf) -> DriftReport:
    """Acknowledge the alarms and watch anew from the next image on; returns the state of the new watch."""
    return await run_sync(service.host.reset_drift, limiter=service.inference)
