"""The REST service of a node as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import run_sync
from fastapi import FastAPI

from fedlmd.service import errors
from fedlmd.service.contract import Host
from fedlmd.service.limits import MAX_BODY, BodyLimit
from fedlmd.service.metrics import NodeCollector
from fedlmd.service.routes import drift, health, inference, releases, runs, training, workers
from fedlmd.service.schema import ErrorBody
from fedlmd.service.state import Service

DESCRIPTION = """Federated image classification that knows what it does not know.

Predict an image at `/infer`, train this node at `/train-worker-on-labels-list`, train all nodes at `/v1/runs`.
Every error is `{"error": "<one sentence>"}`."""


def create_app(host: Host, *, max_body: int = MAX_BODY) -> FastAPI:
    """The service of one node.

    Args:
        host: the node.
        max_body: largest body of a request, in bytes.
    """
    app = FastAPI(
        title=f"fedlmd: {host.name}",
        description=DESCRIPTION,
        responses={422: {"model": ErrorBody}},
        lifespan=lifespan,
    )
    app.state.service = service = Service(host)
    service.metrics.registry.register(NodeCollector(host, service.jobs, service.started))
    app.add_middleware(BodyLimit, limit=max_body)
    errors.install(app)
    for topic in (inference, training, releases, drift, runs, workers, health):
        app.include_router(topic.router)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Cancel local trainings when the service ends."""
    service: Service = app.state.service
    try:
        yield
    finally:
        service.closing.set()
        await run_sync(service.jobs.close)
