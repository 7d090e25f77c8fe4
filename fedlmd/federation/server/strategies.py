"""The strategies that settings can name: Flower's own, each behind the guard."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import FedAdam, FedMedian, FedTrimmedAvg, Krum

from fedlmd.federation.config import FederationConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import NUM_EXAMPLES, Reply, pack_update, pack_weights, unpack_weights
from fedlmd.federation.server.checkpoints import prefixed, stripped
from fedlmd.federation.server.guard import Guard
from fedlmd.federation.strategies import STRATEGIES
from fedlmd.release import Weights

# Prefixes of FedAdam's moments in the strategy's state.
FIRST, SECOND = "first/", "second/"


class GuardedFedAdam(Guard, FedAdam):
    """FedAdam (Reddi et al. 2021, algorithm 2) behind the guard: Adam at the server, on the rounds' mean change.

    A weight whose changes are far below ``tau = 0.001`` moves about ``server_rate / tau`` times its mean change, one
    whose changes are far above it about ``server_rate``. A resumed run continues with the same moments.
    """

    @property
    def state(self) -> Weights:
        """Beside the guard's arrays, the two moments."""
        return {**super().state, **prefixed(FIRST, by_name(self.m_t)), **prefixed(SECOND, by_name(self.v_t))}

    def load_state(self, done: int, state: Weights) -> None:
        """Continue after ``done`` rounds, with the moments after them."""
        super().load_state(done, state)
        self.m_t, self.v_t = flat_arrays(stripped(FIRST, state)), flat_arrays(stripped(SECOND, state))

    def combined(self, number: int) -> Weights:
        """Adam's step from the weights that were sent, on those arrays that the updates have."""
        self.current_arrays = flat_arrays({name: self.sent[name] for name in self.expected})
        return super().combined(number)


class Holding(Guard):
    """The guard of strategies that must see all updates of a round at once.

    The server's memory then grows with the number of workers: by a model for each as it arrives, and by more while
    Flower's strategy computes; the event "held" has the bytes. The strategies get the changes of the weights, not the
    weights themselves. The result is the same, as all of them commute with translation, but the distances between
    updates then lose nothing to rounding.
    """

    def begin(self) -> None:
        """Drop the updates of the previous round."""
        super().begin()
        self.held: list[Message] = []

    def add(self, reply: Reply) -> None:
        """Hold a good update until all have arrived."""
        with np.errstate(over="ignore"):
            changed = {name: array - self.sent[name] for name, array in reply.weights.items()}
        self.held.append(pack_update(changed, reply.metrics[NUM_EXAMPLES]))

    def combined(self, number: int) -> Weights:
        """The weights that were sent, plus the strategy's aggregate of the changes."""
        size = sum(array.nbytes for array in self.expected.values())
        self.events.append("held", round=number, updates=len(self.held), bytes=size * len(self.held))
        # A Byzantine update may overflow in the distances; it is then the farthest, as it should be.
        with np.errstate(over="ignore", invalid="ignore"):
            changed = self.through_flower(number, self.held)
        self.held = []
        return {name: self.sent[name] + array for name, array in changed.items()}


class GuardedMedian(Holding, FedMedian):
    """The median of each weight (Yin et al. 2018, algorithm 1 with option I) behind the guard, unweighted."""


class GuardedTrimmedMean(Holding, FedTrimmedAvg):
    """The trimmed mean of each weight (Yin et al. 2018, algorithm 1 with option II) behind the guard."""


class GuardedKrum(Holding, Krum):
    """Krum (Blanchard et al. 2017, section 4) behind the guard: the one update that is closest to the others."""


def fedavg(config: FederationConfig, expected: Weights, events: EventLog) -> Guard:
    """FedAvg."""
    return Guard(config, expected, events)


def fedadam(config: FederationConfig, expected: Weights, events: EventLog) -> Guard:
    """FedAdam."""
    return GuardedFedAdam(config, expected, events, eta=config.server_rate)


def median(config: FederationConfig, expected: Weights, events: EventLog) -> Guard:
    """The coordinate-wise median."""
    return GuardedMedian(config, expected, events)


def trimmed_mean(config: FederationConfig, expected: Weights, events: EventLog) -> Guard:
    """The coordinate-wise trimmed mean."""
    return GuardedTrimmedMean(config, expected, events, beta=config.trim)


def krum(config: FederationConfig, expected: Weights, events: EventLog) -> Guard:
    """Krum."""
    return GuardedKrum(config, expected, events, num_malicious_nodes=config.byzantine)


def build_strategy(config: FederationConfig, expected: Mapping[str, np.ndarray], events: EventLog) -> Guard:
    """The strategy that settings name."""
    builder = EntryPoint(config.strategy, STRATEGIES[config.strategy].build, STRATEGIES.group).load()
    strategy: Guard = builder(config, expected, events)
    return strategy


def flat_arrays(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name in the form of Flower's strategies: one flat array for each dtype."""
    return {contents: array.numpy() for contents, array in pack_weights(weights).items()}


def by_name(arrays: Mapping[str, np.ndarray] | None) -> Weights:
    """The inverse of ``flat_arrays``; nothing for None."""
    return unpack_weights(ArrayRecord({contents: Array(array) for contents, array in (arrays or {}).items()}))
