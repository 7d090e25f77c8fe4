"""The strategies that a run can name; other packages add theirs as entry points of the group ``fedlmd.strategies``.

Needs no Flower, so that settings can be checked without it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from fedlmd.choices import Registry

if TYPE_CHECKING:
    from fedlmd.federation.config import FederationConfig


def one(_: FederationConfig) -> int:
    """A single update is enough."""
    return 1


@dataclass(frozen=True)
class Strategy:
    """How updates become one model.

    Args:
        build: "module:function" of the server's side, which is given a FederationConfig, the expected weights and the
            event log, and returns a ``fedlmd.federation.server.guard.Guard``. It is imported by the server's process.
        least_replies: the fewest updates with which the strategy's guarantee holds.
        holds_updates: whether it must have all updates of a round, uncompressed, at once.
    """

    build: str
    least_replies: Callable[[FederationConfig], int] = one
    holds_updates: bool = False


def trimmed_mean_replies(config: FederationConfig) -> int:
    """A trimmed mean leaves no update out before ``trim * n`` reaches 1."""
    return next(number for number in count(int(1 / config.trim)) if int(config.trim * number) >= 1)


BUILDERS = "fedlmd.federation.server.strategies"

STRATEGIES: Registry[Strategy] = Registry(
    "strategy",
    "fedlmd.strategies",
    {
        "fedavg": Strategy(f"{BUILDERS}:fedavg"),
        # FedProx is FedAvg at the server: its proximal term acts at the workers.
        "fedprox": Strategy(f"{BUILDERS}:fedavg"),
        "fedadam": Strategy(f"{BUILDERS}:fedadam"),
        # The median of two is their mean.
        "median": Strategy(f"{BUILDERS}:median", lambda _: 3, holds_updates=True),
        "trimmed-mean": Strategy(f"{BUILDERS}:trimmed_mean", trimmed_mean_replies, holds_updates=True),
        # Krum's guarantee needs n >= 2 f + 3 (Blanchard et al. 2017, proposition 1).
        "krum": Strategy(f"{BUILDERS}:krum", lambda config: 2 * config.byzantine + 3, holds_updates=True),
    },
)
