"""The requests that this package adds to Flower's server: a worker's announcement, and the list of the workers."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, final

from fedlmd.federation.announcement import LARGEST, PATH, Announcement, AnnouncementError
from fedlmd.federation.worker_list import WorkerList

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Reply = tuple[int, dict[str, Any]]
"""Status and body of a response."""


def token_of(secret: bytes) -> str:
    """What a request for the list must present; the secret itself stays where it is."""
    return hmac.digest(secret, b"fedlmd: list of the workers", "sha256").hex()


@final
class WorkerRequests:
    """An ASGI application in front of Flower's: it responds to requests on workers and passes on all others.

    Args:
        app: Flower's application.
        workers: who announced themselves.
        token: what a request for the list must present.
    """

    def __init__(self, app: App, workers: WorkerList, token: str) -> None:
        self.app, self.workers, self.token = app, workers, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self.app(scope, receive, send)
            return
        if scope["method"] == "POST":
            await respond(send, *self.announced(await body_of(receive)))
        elif scope["method"] == "GET":
            await respond(send, *self.listed(dict(scope["headers"]).get(b"authorization", b"")))
        else:
            await respond(send, 405, {"error": f"{PATH} takes POST from workers and GET from the server's own node"})

    def announced(self, body: bytes) -> Reply:
        """Take an announcement."""
        try:
            reason = self.workers.announce(Announcement.from_json(body))
        except AnnouncementError as error:
            return 413 if len(body) > LARGEST else 400, {"error": str(error)}
        return 200, {"accepted": True} if reason is None else {"accepted": False, "reason": reason}

    def listed(self, authorization: bytes) -> Reply:
        """The list, for the server's own node alone."""
        if not hmac.compare_digest(authorization, f"Bearer {self.token}".encode()):
            return 401, {"error": "the list of workers is for the server's own node; ask its REST service"}
        return 200, {"workers": [worker.to_json() for worker in self.workers.list()]}


async def body_of(receive: Receive) -> bytes:
    """The body of a request; of one that is too large, only so much that this is known."""
    body = bytearray()
    while len(body) <= LARGEST:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body[: LARGEST + 1])


async def respond(send: Send, status: int, body: dict[str, Any]) -> None:
    """Send a response in JSON."""
    data = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
