"""The node's figures for Prometheus."""

from __future__ import annotations

from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Response
from prometheus_client.exposition import choose_encoder

from fedlmd.service.state import ServiceOf

__all__ = ["router"]

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics(service: ServiceOf, accept: Annotated[str, Header()] = "") -> Response:
    """The node's figures in Prometheus's text format, or in OpenMetrics' where that is asked for."""
    encode, content_type = choose_encoder(accept)
    text = await run_sync(encode, service.metrics.registry, limiter=service.health)
    # Starlette would put a charset to what has one.
    return Response(text, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
