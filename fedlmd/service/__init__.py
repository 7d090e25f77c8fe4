"""The REST service of a node."""

from fedlmd.service.app import create_app
from fedlmd.service.contract import (
    PRETRAINED,
    Busy,
    Host,
    Refused,
    ReleaseSummary,
    Role,
    RunRequest,
    Runs,
    RunState,
    RunSummary,
    TrainRequest,
    Unavailable,
    UnknownRelease,
    UnknownRun,
)
from fedlmd.service.server import in_background, serve

__all__ = [
    "PRETRAINED",
    "Busy",
    "Host",
    "Refused",
    "ReleaseSummary",
    "Role",
    "RunRequest",
    "RunState",
    "RunSummary",
    "Runs",
    "TrainRequest",
    "Unavailable",
    "UnknownRelease",
    "UnknownRun",
    "create_app",
    "in_background",
    "serve",
]
