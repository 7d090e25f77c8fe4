"""The strategies that a plan can name: Flower's own, each behind the guard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp.strategy import FedAdam, FedMedian, FedProx, FedTrimmedAvg, Krum

from fedlmd.federation.checkpoints import prefixed, stripped
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import NUM_EXAMPLES, Reply, Weights, pack_update, pack_weights, unpack_weights
from fedlmd.federation.plan import Plan
from fedlmd.federation.strategy import Guard

__all__ = [
    "GuardedFedAdam",
    "GuardedFedProx",
    "GuardedKrum",
    "GuardedMedian",
    "GuardedTrimmedMean",
    "Holding",
    "build_strategy",
]

# FedAdam's moments among the arrays that outlive a round.
FIRST, SECOND = "first/", "second/"


class GuardedFedProx(Guard, FedProx):
    """FedProx (Li et al. 2020, equation 2) behind the guard; ``mu = 0`` is FedAvg."""


class GuardedFedAdam(Guard, FedAdam):
    """FedAdam (Reddi et al. 2021, algorithm 2) behind the guard: Adam at the server, on the rounds' mean change.

    A weight whose changes are far below ``tau = 0.001`` moves about ``server_rate / tau`` times its mean change, one
    whose changes are far above it about ``server_rate``. The moments outlive a resume.
    """

    @property
    def state(self) -> Weights:
        """Beside the guard's arrays, the two moments."""
        return {**super().state, **prefixed(FIRST, by_name(self.m_t)), **prefixed(SECOND, by_name(self.v_t))}

    def go_on(self, done: int, state: Weights) -> None:
        """Go on after so many rounds, with the moments of that time."""
        super().go_on(done, state)
        self.m_t, self.v_t = flat_arrays(stripped(FIRST, state)), flat_arrays(stripped(SECOND, state))

    def combined(self, number: int) -> Weights:
        """Adam's step from the weights that were sent, on those arrays that the updates have."""
        self.current_arrays = flat_arrays({name: self.sent[name] for name in self.expected})
        return super().combined(number)


class Holding(Guard):
    """The guard of strategies that must see all updates of a round at once.

    The server's memory then grows with the number of workers: by a model for each while they come in, and by some more
    while Flower's strategy works on them; the event "held" says how much it is. They see how each worker changed the
    weights, not the weights themselves. The result is the same, as none of them cares where zero is, but the distances
    between updates then lose nothing to rounding.
    """

    def begin(self) -> None:
        """Forget the updates of the round before."""
        super().begin()
        self.held: list[Message] = []

    def add(self, reply: Reply) -> None:
        """Keep a good update until all are there."""
        with np.errstate(over="ignore"):
            changed = {name: array - self.sent[name] for name, array in reply.weights.items()}
        self.held.append(pack_update(changed, reply.metrics[NUM_EXAMPLES]))

    def combined(self, number: int) -> Weights:
        """The weights that were sent, changed as the strategy says."""
        size = sum(array.nbytes for array in self.expected.values())
        self.events.append("held", round=number, updates=len(self.held), bytes=size * len(self.held))
        # What a liar sends may overflow in the distances; such an update is then the farthest, as it should be.
        with np.errstate(over="ignore", invalid="ignore"):
            changed = self.through_flower(number, self.held)
        self.held = []
        return {name: self.sent[name] + array for name, array in changed.items()}


class GuardedMedian(Holding, FedMedian):
    """The median of each weight (Yin et al. 2018, algorithm 1 with option I) behind the guard; every worker is one."""


class GuardedTrimmedMean(Holding, FedTrimmedAvg):
    """The trimmed mean of each weight (Yin et al. 2018, algorithm 1 with option II) behind the guard."""


class GuardedKrum(Holding, Krum):
    """Krum (Blanchard et al. 2017, section 4) behind the guard: the one update that lies closest to the others."""


def build_strategy(plan: Plan, expected: Mapping[str, np.ndarray], events: EventLog) -> Guard:
    """The strategy that a plan names."""
    of = plan.strategy
    if of.name == "fedprox":
        return GuardedFedProx(plan, expected, events, proximal_mu=of.mu)
    if of.name == "fedadam":
        return GuardedFedAdam(plan, expected, events, eta=of.server_rate)
    if of.name == "median":
        return GuardedMedian(plan, expected, events)
    if of.name == "trimmed-mean":
        return GuardedTrimmedMean(plan, expected, events, beta=of.trim)
    if of.name == "krum":
        return GuardedKrum(plan, expected, events, num_malicious_nodes=of.byzantine)
    return Guard(plan, expected, events)


def flat_arrays(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays by name as Flower's strategies keep them: one flat array for each dtype."""
    return {contents: array.numpy() for contents, array in pack_weights(weights).items()}


def by_name(arrays: Mapping[str, np.ndarray] | None) -> Weights:
    """The inverse of ``flat_arrays``; nothing for None."""
    return unpack_weights(ArrayRecord({contents: Array(array) for contents, array in (arrays or {}).items()}))
