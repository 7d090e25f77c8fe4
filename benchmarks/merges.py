"""The federations that the merge benchmark draws, and the methods that it compares on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from fedlmd.calibration import CalibrationConfig
from fedlmd.data import DataConfig, PartitionConfig
from fedlmd.federation.config import FederationConfig
from fedlmd.models import ModelConfig
from fedlmd.settings import Settings
from fedlmd.training import TrainingConfig

Group = Literal["rounds", "one shot"]

LABELS = ("0", "1", "2", "3", "4")
"""What the federations know; the digits 5 to 9 are unknown to all of them."""


@dataclass(frozen=True)
class Method:
    """One way from the workers' training to one detector.

    Args:
        title: in words.
        group: whether the workers' denoisers are merged round by round, or once.
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
    "uniform": Method("FedAvg, all workers alike", "rounds", {"weighting": "uniform"}),
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
        partition: which worker has which images.
        rounds: of training.
        methods: names of those that are measured on it.
        byzantine: so many of the last workers send the reverse of their update.
        share: of the budget's gradient steps that its workers together do, above 0.
    """

    title: str
    partition: PartitionConfig
    rounds: int
    methods: tuple[str, ...]
    byzantine: int = 0
    share: float = 1.0

    @property
    def workers(self) -> int:
        """How many workers there are."""
        return self.partition.workers


ROBUST = ("median", "trimmed-mean", "krum")
ONE_SHOT = ("average-own", "average", "mixture", "union")
TWO_WORKERS = ("fedavg", "partial", *ONE_SHOT)
DISJOINT = ("fedavg", "learned-head", "fedprox", "fedadam", "partial", "8-bit", "4-bit", *ONE_SHOT)
MANY_WORKERS = ("fedavg", "server-ema", "partial", "average", "mixture", "union")

FEDERATIONS: dict[str, Kind] = {
    "overlapping": Kind(
        "two workers, {0, 1, 2, 3} and {0, 1, 2, 4}",
        PartitionConfig("labels", 2, (("0", "1", "2", "3"), ("0", "1", "2", "4"))),
        50,
        TWO_WORKERS,
    ),
    "disjoint": Kind(
        "two workers, {0, 1, 2} and {3, 4}",
        PartitionConfig("labels", 2, (("0", "1", "2"), ("3", "4"))),
        50,
        DISJOINT,
    ),
    "single": Kind(
        "five workers, one digit each",
        PartitionConfig("labels", 5, tuple((digit,) for digit in LABELS)),
        30,
        MANY_WORKERS,
    ),
    "dirichlet": Kind(
        "ten workers, labels by Dir(0.1)",
        PartitionConfig("dirichlet", 10, alpha=0.1, seed=10),
        20,
        ("fedavg", "uniform", *ONE_SHOT[1:]),
    ),
    "iid": Kind("two workers, drawn alike", PartitionConfig("iid", 2), 20, ("fedavg", "average", "mixture", "union")),
    "honest": Kind(
        "five workers, drawn alike, half of the steps", PartitionConfig("iid", 5), 10, ("fedavg",), share=0.5
    ),
    "poisoned": Kind(
        "the same five, one of them Byzantine",
        PartitionConfig("iid", 5),
        10,
        ("fedavg", *ROBUST),
        byzantine=1,
        share=0.5,
    ),
}

CENTRAL = Kind("all images at one worker", PartitionConfig("iid", 1), 1, ("fedavg",))
"""The upper bound: as many gradient steps as all workers of a federation do together, without a federation."""


@dataclass(frozen=True)
class Budget:
    """What every federation may spend, all of its workers together.

    Args:
        classifier: gradient steps of the classifier, 0 or more.
        denoiser: gradient steps of the denoiser, likewise.
        calibration: images that scores are calibrated on; each worker has its part, but 20 at least.
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
    """The settings of a run: its workers' steps add up to the budget."""
    base, workers = Settings(), kind.workers
    classifier, denoiser = (int(steps * kind.share) // workers for steps in (budget.classifier, budget.denoiser))
    federation = FederationConfig(rounds=kind.rounds, min_workers=workers, wait_seconds=1.0)
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
            images=max(20, budget.calibration // workers), described=max(400, budget.described // workers)
        ),
        federation=replace(federation, **method.changes),
    )


def classifier_rounds(run: Settings) -> Settings:
    """A run that trains the classifier alone, and gives the average of about the last tenth of its rounds.

    With a merge in a single round all rounds train the classifier.
    """
    decay = max(0.0, 1 - 10 / run.federation.rounds)
    return replace(run, federation=replace(run.federation, merge="average", server_ema=decay))


def share_of(config: TrainingConfig, steps: int, rounds: int, ema: float) -> TrainingConfig:
    """A worker's part of a training.

    Warm-up and moving average begin anew with each round. In short rounds neither may take more than a quarter of the
    steps, or the average would lag behind in every round.
    """
    each = steps / rounds
    return replace(
        config, steps=steps, warmup=min(config.warmup, int(each / 4)), ema=max(0.0, min(ema, 1 - 4 / max(each, 4)))
    )
