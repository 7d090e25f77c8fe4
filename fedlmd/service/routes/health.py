"""State of the node, and its figures for Prometheus."""

from __future__ import annotations

import time
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from fedlmd.service.contract import workers_connected
from fedlmd.service.schema import DriftCount, Health, ProgressBody
from fedlmd.service.state import Service, ServiceOf

router = APIRouter(tags=["health"])


@router.get("/health")
async def health(service: ServiceOf) -> Health:
    """State of the node; neither training nor inference delays it."""
    return await run_sync(state_of, service, limiter=service.health)


def state_of(service: Service) -> Health:
    """Query the host; in a thread, as the trainer is another process."""
    host = service.host
    progress, watched, connection = host.progress, host.watched, host.connection
    return Health(
        status="ok",
        name=host.name,
        role=host.role,
        release=host.releases.current,
        training=progress is not None,
        progress=ProgressBody.of(progress) if progress else None,
        jobs=sum(job.running for job in service.jobs.list()),
        drift=DriftCount(state=watched.state, images=watched.images, alarms=watched.alarms) if watched else None,
        uptime=round(time.monotonic() - service.started, 3),
        data=host.data,
        connected=None if connection is None else connection.state == "connected",
        connection=connection,
        workers=workers_connected(host),
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics(service: ServiceOf, accept: Annotated[str, Header()] = "") -> Response:
    """The node's figures in Prometheus's text format, or in OpenMetrics' where the client accepts it."""
    encode, content_type = choose_encoder(accept)
    text = await run_sync(encode, service.metrics.registry, limiter=service.health)
    # A header: Starlette would add a second charset to a media type.
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
