"""Server-sent events: a stream of JSON objects that ends by itself, with the work or with the node."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from fastapi.responses import StreamingResponse

__all__ = ["Event", "event_stream", "finite"]

# Seconds after which a silent stream says that it lives, so that proxies keep it open.
HEARTBEAT = 10.0


class Event(NamedTuple):
    """One event: its number in the stream, if it can be resumed after it, and its content."""

    number: int | None
    data: dict[str, Any]


def event_stream(events: AsyncIterator[Event | None], closing: threading.Event) -> StreamingResponse:
    """Answer with a stream of events.

    Args:
        events: the events; None wherever there is nothing to say at the moment.
        closing: ends the stream when it is set, at the next item.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(encoded(events, closing), media_type="text/event-stream", headers=headers)


async def encoded(events: AsyncIterator[Event | None], closing: threading.Event) -> AsyncIterator[str]:
    """The events as the lines of the stream."""
    spoke = time.monotonic()
    # The headers leave with the first item: a follower is to see at once that it is connected.
    yield ": connected\n\n"
    async for event in events:
        if closing.is_set():
            return
        if event is not None:
            number = "" if event.number is None else f"id: {event.number}\n"
            yield f"{number}data: {json.dumps(finite(event.data), ensure_ascii=False, default=str)}\n\n"
        elif time.monotonic() - spoke >= HEARTBEAT:
            yield ": still here\n\n"
        else:
            continue
        spoke = time.monotonic()


def finite(value: object) -> Any:  # noqa: ANN401 - whatever JSON has
    """The value with null for each number that JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
