"""A limit on the size of request bodies, held before any of them is kept."""

from __future__ import annotations

from typing import final

from fastapi.responses import JSONResponse
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["MAX_BODY", "BodyLimit"]

MAX_BODY = 10 * 2**20
"""Largest body of a request, in bytes."""


@final
class BodyLimit:
    """ASGI middleware that answers 413 to bodies over a limit, whether they declare their length or not.

    The rest of such a body is thrown away as it arrives, so that a client which sends it all before it reads gets to
    see the answer.

    Args:
        app: the application.
        limit: in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = JSONResponse({"error": self.reason}, 413)
        if declared_length(scope) > self.limit:
            await refusal(scope, receive, send)
            return
        taken, refused = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limit:
                # Of all exceptions, the form's parser closes its files only on its own.
                raise MultiPartException(self.reason)
            return message

        async def answered(message: Message) -> None:
            nonlocal refused
            if taken <= self.limit:
                await send(message)
            elif not refused:
                refused = True
                await refusal(scope, receive, send)

        await self.app(scope, counted, answered)

    @property
    def reason(self) -> str:
        """Why a body is refused."""
        return f"the body is larger than {self.limit / 2**20:g} MiB, the most that is taken; send a smaller image"


def declared_length(scope: Scope) -> int:
    """The Content-Length; 0 where the client does not say."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
