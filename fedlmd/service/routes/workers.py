"""The workers that announced themselves to the server."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException

from fedlmd.service.participants import WorkerBody
from fedlmd.service.schema import ErrorBody
from fedlmd.service.state import ServiceOf

router = APIRouter(prefix="/v1", tags=["federated runs"])


@router.get(
    "/workers",
    responses={
        404: {"model": ErrorBody, "description": "The node is a worker."},
        503: {"model": ErrorBody, "description": "Flower's server does not respond; see Retry-After."},
    },
)
def list_workers(service: ServiceOf) -> list[WorkerBody]:
    """The workers of the last hour by name, also those that are refused or gone."""
    workers = service.host.workers()
    if workers is None:
        raise HTTPException(404, f"{service.host.name} is a worker; ask the server for its workers")
    return workers
