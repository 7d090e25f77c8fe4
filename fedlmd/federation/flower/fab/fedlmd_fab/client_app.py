"""The worker's side, from the installed package."""

from fedlmd.federation.client_app import app

__all__ = ["app"]
