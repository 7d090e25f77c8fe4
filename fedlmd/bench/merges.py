"""The federations that the merge benchmark draws, and the methods that it compares on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedlmd.data import PartitionConfig
from fedlmd.settings import CalibrationConfig, DataConfig, FederationConfig, ModelConfig, Settings
from fedlmd.training import TrainingConfig

__all__ = [
    "CENTRAL",
    "FEDERATIONS",
    "LABELS",
    "METHODS",
    "Budget",
    "Kind",
    "Method",
    "classifier_rounds",
    "settings_of",
    "share_of",
]

Group = Literal["rounds", "one shot"]

LABELS = ("0", "1", "2", "3", "4")
"""What the federations know; the digits 5 to 9 are unknown to all of them."""


@dataclass(frozen=True)
class Method:
    """One way from the sites' training to one detector.

    Args:
        title: in words.
        group: whether the sites' denoisers meet round by round, or once.
        changes: of the run's federation settings.
        models: changes of its networks.
        whole: whether the changes concern the classifier's rounds, too; else all methods share one classifier.
    """

    title: str
    group: Group
    changes: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    whole: bool = False


METHODS: dict[str, Method] = {
    "fedavg": Method("FedAvg", "rounds"),
    "uniform": Method("FedAvg, all sites alike", "rounds", {"weighting": "uniform"}),
    "fedprox": Method("FedProx", "rounds", {"strategy": "fedprox", "mu": 0.01}),
    "fedadam": Method("FedAdam", "rounds", {"strategy": "fedadam"}),
    "server-ema": Method("FedAvg, moving average of the rounds", "rounds", {"server_ema": 0.5}),
    "partial": Method("FedAvg, way up of the U-Net local", "rounds", {"merge": "partial"}),
    "learned-head": Method(
        "FedAvg, the classifier's last layer learned", "rounds", models={"head": "learned"}, whole=True
    ),
    "median": Method("median", "rounds", {"strategy": "median", "min_replies": 3}, whole=True),
    "trimmed-mean": Method("trimmed mean", "rounds", {"strategy": "trimmed-mean", "min_replies": 5}, whole=True),
    "krum": Method("Krum", "rounds", {"strategy": "krum", "byzantine": 1, "min_replies": 5}, whole=True),
    "8-bit": Method("FedAvg, changes in 8 bits", "rounds", {"compression": "8-bit"}, whole=True),
    "4-bit": Method("FedAvg, changes in 4 bits", "rounds", {"compression": "4-bit"}, whole=True),
    "average-own": Method("average, each from its own start", "one shot", {"merge": "average", "initial": "own"}),
    "average": Method("average, from a common start", "one shot", {"merge": "average"}),
    "mixture": Method("mixture", "one shot", {"merge": "mixture"}),
    "union": Method("union", "one shot", {"merge": "union"}),
}


@dataclass(frozen=True)
class Kind:
    """A kind of federation.

    Args:
        title: in words.
        partition: which site has which images.
        rounds: of training.
        methods: names of those that are measured on it.
        liars: so many of the last sites send the reverse of what they learnt.
        share: of the budget's gradient steps that its sites together do, above 0.
    """

    title: str
    partition: PartitionConfig
    rounds: int
    methods: tuple[str, ...]
    liars: int = 0
    share: float = 1.0

    @property
    def workers(self) -> int:
        """How many sites there are."""
        return self.partition.workers


ROBUST = ("median", "trimmed-mean", "krum")
ONE_SHOT = ("average-own", "average", "mixture", "union")
TWO_SITES = ("fedavg", "partial", *ONE_SHOT)
DISJOINT = ("fedavg", "learned-head", "fedprox", "fedadam", "partial", "8-bit", "4-bit", *ONE_SHOT)
MANY_SITES = ("fedavg", "server-ema", "partial", "average", "mixture", "union")

FEDERATIONS: dict[str, Kind] = {
    "overlapping": Kind(
        "two sites, {0, 1, 2, 3} and {0, 1, 2, 4}",
        PartitionConfig("labels", 2, (("0", "1", "2", "3"), ("0", "1", "2", "4"))),
        50,
        TWO_SITES,
    ),
    "disjoint": Kind(
        "two sites, {0, 1, 2} and {3, 4}",
        PartitionConfig("labels", 2, (("0", "1", "2"), ("3", "4"))),
        50,
        DISJOINT,
    ),
    "single": Kind(
        "five sites, one digit each", PartitionConfig("labels", 5, tuple((digit,) for digit in LABELS)), 30, MANY_SITES
    ),
    "dirichlet": Kind(
        "ten sites, labels by Dir(0.1)",
        PartitionConfig("dirichlet", 10, alpha=0.1, seed=10),
        20,
        ("fedavg", "uniform", *ONE_SHOT[1:]),
    ),
    "iid": Kind("two sites, drawn alike", PartitionConfig("iid", 2), 20, ("fedavg", "average", "mixture", "union")),
    "honest": Kind("five sites, drawn alike, half of the steps", PartitionConfig("iid", 5), 10, ("fedavg",), share=0.5),
    "poisoned": Kind(
        "the same five, one of them lies", PartitionConfig("iid", 5), 10, ("fedavg", *ROBUST), liars=1, share=0.5
    ),
}

CENTRAL = Kind("all images at one site", PartitionConfig("iid", 1), 1, ("fedavg",))
"""The ceiling: as many gradient steps as all sites of a federation do together, without a federation."""


@dataclass(frozen=True)
class Budget:
    """What every federation may spend, all of its sites together.

    Args:
        classifier: gradient steps of the classifier, 0 or more.
        denoiser: gradient steps of the denoiser, likewise.
        calibration: images that scores are calibrated on; each site has its part, but 20 at least.
        described: images that the Gaussians of the classes are fitted to, likewise, but 400 at least.
        seed: of the runs.
        models: widths of the networks.
    """

    classifier: int = 1000
    denoiser: int = 1200
    calibration: int = 200
    described: int = 4000
    seed: int = 0
    models: ModelConfig = field(default_factory=ModelConfig)


def settings_of(kind: Kind, method: Method, budget: Budget) -> Settings:
    """The settings of a run: its sites' steps add up to the budget."""
    base, sites = Settings(), kind.workers
    classifier, denoiser = (int(steps * kind.share) // sites for steps in (budget.classifier, budget.denoiser))
    federation = FederationConfig(rounds=kind.rounds, min_workers=sites, wait_seconds=1.0)
    alone = method.group == "one shot"
    return replace(
        base,
        labels=LABELS,
        seed=budget.seed,
        models=replace(budget.models, **method.models),
        data=DataConfig(partition=kind.partition),
        classifier=share_of(base.classifier, classifier, kind.rounds, 0.0 if kind.rounds > 1 else 0.9),
        denoiser=share_of(base.denoiser, denoiser, 1 if alone else kind.rounds, 0.98),
        calibration=CalibrationConfig(
            images=max(20, budget.calibration // sites), described=max(400, budget.described // sites)
        ),
        federation=replace(federation, **method.changes),
    )


def classifier_rounds(run: Settings) -> Settings:
    """A run that trains the classifier alone, and gives the average of about the last tenth of its rounds.

    A merge in a single round leaves all rounds to the classifier.
    """
    decay = max(0.0, 1 - 10 / run.federation.rounds)
    return replace(run, federation=replace(run.federation, merge="average", server_ema=decay))


def share_of(config: TrainingConfig, steps: int, rounds: int, ema: float) -> TrainingConfig:
    """A site's part of a training.

    In short rounds neither the warming up nor the moving average, which begin anew with each, may take more than a
    quarter of the steps: the average would hold every round back.
    """
    each = steps / rounds
    return replace(
        config, steps=steps, warmup=min(config.warmup, int(each / 4)), ema=max(0.0, min(ema, 1 - 4 / max(each, 4)))
    )
