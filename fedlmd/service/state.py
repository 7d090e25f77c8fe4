"""What the routes share: the host, its jobs, the limits on threads. One for each application."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request

from fedlmd.service.contract import Host
from fedlmd.service.jobs import Jobs
from fedlmd.service.metrics import InferenceMetrics


@dataclass(frozen=True)
class Service:
    """One application's state.

    Args:
        host: the node.
        jobs: its local trainings.
        metrics: counts for Prometheus.
        inference: how many images are predicted at once; further ones wait without holding a thread.
        health: threads reserved for /health.
        streams: threads that wait for the events of runs.
        closing: set when the node shuts down, so that streams and waiting requests end.
        started: on the monotonic clock.
    """

    host: Host
    jobs: Jobs = field(default_factory=Jobs)
    metrics: InferenceMetrics = field(default_factory=InferenceMetrics)
    inference: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))
    health: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(4))
    streams: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(32))
    closing: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)


def service_of(request: Request) -> Service:
    """The state of the application that a request came to."""
    service: Service = request.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(service_of)]
