"""Serve the application over HTTP and shut it down in good order."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import uvicorn
from fastapi import FastAPI

from fedlmd.service.state import Service

# Seconds that open requests have to end at the shutdown.
GRACE = 2


@final
class Server(uvicorn.Server):
    """uvicorn that sets the service's ``closing`` before it waits for open streams, and returns on a signal."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all streams, then the connections."""
        service: Service = self.config.app.state.service  # type: ignore[union-attr]
        service.closing.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down on SIGINT and SIGTERM.

        uvicorn's own method raises them again at the end, which would kill the process before its node is stopped.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM comes; returns within a few seconds, whatever is still open.

    Args:
        app: what ``create_app`` made.
        host: address to listen at.
        port: 0 takes a free one.

    Raises:
        OSError: when the address is not free, with one sentence.
    """
    with listen(host, port) as listener:
        server_for(app).run([listener])


@contextmanager
def in_background(app: FastAPI, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread for as long as the context lasts; gives the service's URL.

    Raises:
        OSError: as ``serve``.
    """
    with listen(host, port) as listener:
        server = server_for(app)
        thread = threading.Thread(target=server.run, args=([listener],), name="service", daemon=True)
        address = f"[{host}]" if ":" in host else host
        thread.start()
        try:
            # Connections queue from the moment that the socket listens: no need to wait for the first to be accepted.
            yield f"http://{address}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(GRACE + 5)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"cannot listen at {host} port {port} ({reason}); choose another") from None


def server_for(app: FastAPI) -> Server:
    """A server that logs warnings only and speaks HTTP only."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=20,
        timeout_graceful_shutdown=GRACE,
    )
    return Server(config)
