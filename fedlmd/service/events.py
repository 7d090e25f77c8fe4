"""Server-sent events: a stream of JSON objects that ends by itself, with the work or with the node."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from fastapi.responses import StreamingResponse
from pydantic_core import to_json

# Seconds without an event after which a comment is sent, so that proxies keep the stream open.
HEARTBEAT = 10.0


class Event(NamedTuple):
    """One event: its number, where the stream can be resumed after it, and its content."""

    number: int | None
    data: dict[str, Any]


def event_stream(events: AsyncIterator[Event | None], closing: threading.Event) -> StreamingResponse:
    """A response that streams events.

    Args:
        events: the events; None while there is no event.
        closing: ends the stream when it is set, at the next item.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(encoded(events, closing), media_type="text/event-stream", headers=headers)


async def encoded(events: AsyncIterator[Event | None], closing: threading.Event) -> AsyncIterator[str]:
    """The events as the lines of the stream."""
    last_sent = time.monotonic()
    # The headers are sent with the first item: the client sees at once that it is connected.
    yield ": connected\n\n"
    async for event in events:
        if closing.is_set():
            return
        if event is not None:
            number = "" if event.number is None else f"id: {event.number}\n"
            yield f"{number}data: {to_json(event.data, inf_nan_mode='null').decode()}\n\n"
        elif time.monotonic() - last_sent >= HEARTBEAT:
            yield ": still here\n\n"
        else:
            continue
        last_sent = time.monotonic()
