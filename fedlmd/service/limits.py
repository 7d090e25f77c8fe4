"""A limit on the size of request bodies, checked while they arrive."""

from __future__ import annotations

from typing import final

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 10 * 2**20
"""Largest body of a request, in bytes."""


@final
class BodyLimit:
    """ASGI middleware that responds with 413 to bodies over a limit, whether they declare their length or not.

    The rest of such a body is discarded as it arrives, so that a client which sends all of it before it reads receives
    the response.

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
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdigit() and int(declared) > self.limit:
            await refusal(scope, receive, send)
            return
        received, refused = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                # The form's parser closes its files only on its own exception.
                raise MultiPartException(self.reason)
            return message

        async def sent(message: Message) -> None:
            nonlocal refused
            if received <= self.limit:
                await send(message)
            elif not refused:
                refused = True
                await refusal(scope, receive, send)

        await self.app(scope, counted, sent)

    @property
    def reason(self) -> str:
        """Why a body is refused."""
        return f"the body is larger than {self.limit / 2**20:g} MiB, the most that is taken; send a smaller image"
