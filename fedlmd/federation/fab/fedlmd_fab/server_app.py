"""The server's side, from the installed package."""

from fedlmd.federation.server_app import app

__all__ = ["app"]
