"""The bodies of responses on workers: their own images, how they stand with their server, what the server lists."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

DataState = Literal["checking", "usable", "unusable"]
ConnectionState = Literal["connected", "connecting", "refused", "unreachable"]


class DataBody(BaseModel):
    """The worker's own images, which are checked when it starts."""

    state: DataState
    problem: str | None = Field(description="Why they cannot be used; the worker then takes part in no run.")
    labels: dict[str, dict[str, int]] | None = Field(
        description="How many images each label has to train and to evaluate on.",
        examples=[{"cat": {"train": 80, "eval": 20}}],
    )
    notes: list[str] = Field(description="What was guessed or passed over.")


class ConnectionBody(BaseModel):
    """How the worker stands with its server."""

    server: str = Field(description="Address of Flower's server.", examples=["server:9092"])
    state: ConnectionState
    reason: str | None = Field(description="Why it is not connected, or takes part in no run.")
    since: datetime = Field(description="When this state began.")


class Doing(BaseModel):
    """What a trainer does."""

    stage: str
    done: int
    total: int


class WorkerBody(BaseModel):
    """A worker that announced itself to the server. What it says of itself need not be true."""

    name: str
    version: str = Field(description="Of this package, at the worker.")
    flower: str = Field(description="Of Flower, at the worker.")
    labels: dict[str, int] | list[str] | None = Field(
        description="Its labels with their training images, or alone; null where it lets nobody know (`data.announce`)."
    )
    images: dict[str, Any] | None = Field(description="What a sample of its images looks like.")
    problem: str | None = Field(description="Why its images cannot be used; it then takes part in no run.")
    doing: Doing | None = Field(description="What its trainer does; null when it is idle.")
    refused: str | None = Field(description="Why the server does not accept it; null where it does.")
    connected: bool = Field(description="Whether it was accepted within the last 5 seconds.")
    last_seen: datetime
