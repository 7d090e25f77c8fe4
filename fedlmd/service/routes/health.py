"""Whether the node is there."""

from __future__ import annotations

import time
from dataclasses import asdict

from anyio.to_thread import run_sync
from fastapi import APIRouter

from fedlmd.service.schema import DriftCount, Health, ProgressBody
from fedlmd.service.state import Service, ServiceOf

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(service: ServiceOf) -> Health:
    """That the node is there, and what it does; neither training nor inference makes this wait."""
    return await run_sync(look, service, limiter=service.health)


def look(service: Service) -> Health:
    """Ask the host; in a thread, since the trainer is another process."""
    host = service.host
    progress, watched = host.progress, host.watched
    return Health(
        status="ok",
        name=host.name,
        role=host.role,
        release=host.current,
        training=progress is not None,
        progress=ProgressBody(**asdict(progress)) if progress else None,
        jobs=sum(job.state == "running" for job in service.jobs.list()),
        drift=DriftCount(state=watched.state, images=watched.images, alarms=watched.alarms) if watched else None,
        uptime=round(time.monotonic() - service.started, 3),
    )
