"""The server's side, from the installed package."""

from fedlmd.federation.server.app import app

__all__ = ["app"]
