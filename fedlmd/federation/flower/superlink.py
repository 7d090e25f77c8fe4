"""``python -m fedlmd.federation.flower.superlink ARGUMENT...``: Flower's server, which also takes announcements.

It is the program ``flower-superlink`` with the same arguments. Flower has no option for an application in front of its
own, so the function that builds it is replaced before the program starts; only public names of Flower are used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, final

from fedlmd.federation.announcement import PATH
from fedlmd.federation.flower.announcements import App, WorkerRequests, token_of
from fedlmd.federation.worker_list import WorkerList

if TYPE_CHECKING:
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig


@final
class WithoutAnnouncements(logging.Filter):
    """Keeps announcements, which come every few seconds from every worker, out of the log of requests."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        return PATH not in record.getMessage()


def in_front_of(app: App, secret: bytes | None) -> App:
    """What this package puts in front of Flower's application.

    Args:
        app: Flower's.
        secret: which Flower's processes of the server share.
    """
    if secret is None:
        raise SystemExit("Flower's server needs --isolation process and --superexec-auth-secret-file")
    return WorkerRequests(app, WorkerList(), token_of(secret))


def main() -> None:
    """Run Flower's server until a signal ends it."""
    # Flower's modules change the environment when they are imported.
    from flwr.superlink import main as flower  # noqa: PLC0415
    from flwr.superlink.cli import flower_superlink  # noqa: PLC0415

    create = flower.create_app

    def create_app(config: SuperLinkLifespanConfig, lifespan: type[SuperLinkLifespan]) -> App:
        return in_front_of(create(config, lifespan), config.superexec_auth_secret)

    flower.create_app = create_app  # type: ignore[assignment] # uvicorn takes any ASGI application
    logging.getLogger("uvicorn.access").addFilter(WithoutAnnouncements())
    flower_superlink()


if __name__ == "__main__":
    main()
