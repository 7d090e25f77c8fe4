"""All settings of a run: one TOML file, read once, checked whole, an unknown key being an error.

Each part of the program has its settings beside the thing that they set; this file composes them.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_origin

import dacite

from fedlmd.data import PartitionConfig
from fedlmd.detection import FAST, PRESETS, LMDConfig, OneStepConfig, SiteCalibration
from fedlmd.diffusion import Schedule, ScheduleConfig, timesteps
from fedlmd.models import ClassifierConfig, DenoiserConfig
from fedlmd.training import AugmentationConfig, TrainingConfig

__all__ = [
    "DIGITS",
    "CalibrationConfig",
    "DataConfig",
    "DetectorConfig",
    "FederationConfig",
    "ModelConfig",
    "Settings",
    "SettingsError",
    "from_mapping",
    "read",
    "to_mapping",
]

DIGITS = tuple("0123456789")
SCORES = ("max-logit", "mahalanobis", "one-step", "lmd")


class SettingsError(ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class DataConfig:
    """Where a site's images come from.

    Args:
        source: "mnist", a folder of ``<label>/*.png``, or an .npz file; see ``fedlmd.data.load``.
        held_back: share of the training images kept from training, to calibrate with; in (0, 0.5].
        partition: this site's share of the source, when several sites divide one.
    """

    source: str = "mnist"
    held_back: float = 0.1
    partition: PartitionConfig = field(default_factory=PartitionConfig)

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not 0 < self.held_back <= 0.5:
            raise ValueError(f"held_back is {self.held_back}; it lies in (0, 0.5]")


@dataclass(frozen=True)
class ModelConfig:
    """Widths of the two networks; images, channels and labels are the run's.

    Args:
        classifier: channels of the classifier's stages.
        denoiser: channels of the denoiser's resolutions.
        blocks: residual blocks of each of the denoiser's resolutions.
        views: views that the classifier tells apart, 1, 4 or 8.
    """

    classifier: tuple[int, ...] = (32, 64, 96)
    denoiser: tuple[int, ...] = (64, 64)
    blocks: int = 1
    views: int = 4


@dataclass(frozen=True)
class DetectorConfig:
    """Which scores make the verdict, and how each is made.

    Args:
        verdict: scores whose standardised sum decides: any of "max-logit", "mahalanobis", "one-step", "lmd". The
            others are computed only when they are asked for.
        feature_stages: stages of the classifier whose maps the distance "features" compares, 0 being the finest and
            -1 the last.
        lmd: settings of LMD; in TOML, ``preset = "paper"`` or ``"fast"`` under the table's own keys.
        one_step: settings of one-step denoising.
        shrinkage: of the covariances behind Mahalanobis distances, in (0, 1].
    """

    verdict: tuple[str, ...] = ("mahalanobis", "one-step")
    feature_stages: tuple[int, ...] = (-1,)
    lmd: LMDConfig = FAST
    one_step: OneStepConfig = field(default_factory=OneStepConfig)
    shrinkage: float = 0.1

    def __post_init__(self) -> None:
        """Refuse unknown scores."""
        if not self.verdict or not set(self.verdict) <= set(SCORES):
            raise ValueError(f"verdict is {list(self.verdict)}; name one or more of {', '.join(SCORES)}")
        if not 0 < self.shrinkage <= 1:
            raise ValueError(f"shrinkage is {self.shrinkage}; it lies in (0, 1]")


@dataclass(frozen=True)
class CalibrationConfig:
    """How the threshold is set.

    Args:
        alpha: share of known images that may be called unknown, in (0, 1).
        images: at most so many held-back images are scored at each site.
        described: at most so many training images of each site are summed up in the Gaussians of the embeddings.
        sites: whose images a site compares its own with: "pooled" (those of all sites alike), "own", or "shrunk" (its
            own, and those of all others together as ten more); see ``fedlmd.detection.reference``.
        alpha_uncertain: an image that is not unknown is called known only when its p-value exceeds this, in (0, 1).
    """

    alpha: float = 0.05
    images: int = 500
    described: int = 8000
    sites: SiteCalibration = "shrunk"
    alpha_uncertain: float = 0.2

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        for name in ("alpha", "alpha_uncertain"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it lies strictly between 0 and 1")
        if self.images < 2:
            raise ValueError(f"images is {self.images}; at least 2 are needed")
        if self.described < 1:
            raise ValueError(f"described is {self.described}; at least 1 is needed")


@dataclass(frozen=True)
class FederationConfig:
    """How the sites train together.

    Args:
        rounds: communication rounds.
        strategy: "fedavg" (McMahan et al. 2017) or "fedprox" (Li et al. 2020).
        mu: strength of FedProx's pull towards the global weights, 0 or more.
        min_workers: a round starts when so many workers are there.
        min_replies: a round counts when so many good updates came back; with fewer the old weights are kept.
        wait_seconds: the run fails when it waited so long for workers.
        round_timeout: seconds after which a round goes on without the workers that have not replied.
        max_failed_rounds: the run fails after so many rounds in a row that did not count.
        compression: what workers send: "none" (their weights, float32) or "8-bit" (how the weights changed, a quarter
            of the bytes); see ``fedlmd.compression``.
    """

    rounds: int = 6
    strategy: Literal["fedavg", "fedprox"] = "fedavg"
    mu: float = 0.01
    min_workers: int = 2
    min_replies: int = 1
    wait_seconds: float = 120.0
    round_timeout: float = 900.0
    max_failed_rounds: int = 2
    compression: Literal["none", "8-bit"] = "none"

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}; at least 1 is needed")
        if not 0 <= self.mu < math.inf:
            raise ValueError(f"mu is {self.mu}; it is 0 or more")
        for name in ("wait_seconds", "round_timeout", "max_failed_rounds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is above 0")
        if not 1 <= self.min_replies <= self.min_workers:
            raise ValueError(f"min_replies is {self.min_replies}; it lies between 1 and min_workers {self.min_workers}")


@dataclass(frozen=True)
class Settings:
    """Everything that determines a run.

    Args:
        labels: labels that the classifier tells apart and the detector knows, in the order of its outputs.
        image_size: images are brought to this height and width, in pixels.
        channels: 1 (grey) or 3 (RGB).
        seed: of initial weights, shuffling, noise.
    """

    labels: tuple[str, ...] = DIGITS
    image_size: int = 28
    channels: int = 1
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    models: ModelConfig = field(default_factory=ModelConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    classifier: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=1200,
            batch_size=128,
            weight_decay=0.1,
            ema=0.99,
            augmentation=AugmentationConfig(12.0, 0.12, 0.12, 0.025),
        )
    )
    denoiser: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=3000, batch_size=64))
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)

    def __post_init__(self) -> None:
        """Refuse what no part can check alone."""
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels is {list(self.labels)}; give at least two, none of them twice")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}; it is 1 (grey) or 3 (RGB)")
        _ = self.classifier_config, self.denoiser_config  # their own checks
        lmd, stages = self.detector.lmd, range(len(self.models.classifier))
        timesteps(Schedule(self.schedule), lmd.inpainting.steps, lmd.inpainting.start)
        if not 2 <= lmd.cells <= self.image_size:
            raise ValueError(f"cells is {lmd.cells}; images of {self.image_size} pixels take 2 to {self.image_size}")
        if not self.detector.feature_stages or not set(self.detector.feature_stages) <= {*stages, -1}:
            raise ValueError(
                f"feature_stages is {list(self.detector.feature_stages)}; "
                f"the classifier has the stages {list(stages)}, and -1 is the last"
            )

    @property
    def classifier_config(self) -> ClassifierConfig:
        """Shape of the classifier."""
        widths, views = self.models.classifier, self.models.views
        return ClassifierConfig(self.image_size, self.channels, len(self.labels), widths, views=views)

    @property
    def denoiser_config(self) -> DenoiserConfig:
        """Shape of the denoiser."""
        widths, blocks = self.models.denoiser, self.models.blocks
        return DenoiserConfig(self.image_size, self.channels, len(self.labels), widths, blocks)

    def with_labels(self, labels: tuple[str, ...]) -> Settings:
        """The same settings for another list of labels."""
        return replace(self, labels=labels)


def read(path: Path) -> Settings:
    """Read a run's TOML file; what it leaves out keeps its default.

    Raises:
        SettingsError: naming the file and the key.
    """
    try:
        return from_mapping(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file {path}") from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, SettingsError) as error:
        raise SettingsError(f"{path}: {error}") from None


def from_mapping(values: dict[str, Any]) -> Settings:
    """Settings from nested dictionaries, as TOML and JSON give them.

    Raises:
        SettingsError: on an unknown key, a wrong type or a value out of range.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"settings are a table of keys and values, not {values!r}")
    # Partial tables keep the defaults of the run, which for the two trainings differ from the class's own.
    merged = merge(to_mapping(Settings()), with_preset(values))
    try:
        return dacite.from_dict(Settings, merged, dacite.Config(strict=True, type_hooks=HOOKS))
    except dacite.DaciteError as error:
        raise SettingsError(f"unknown or wrong setting: {error}") from None
    except (ValueError, TypeError) as error:
        raise SettingsError(str(error)) from None


def with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Replace ``preset`` in the table ``detector.lmd`` by that preset's settings, over which the other keys are put."""
    detector = values.get("detector")
    if not isinstance(detector, dict) or not isinstance(detector.get("lmd"), dict) or "preset" not in detector["lmd"]:
        return values
    table = detector["lmd"]
    own = {key: value for key, value in table.items() if key != "preset"}
    if table["preset"] not in PRESETS:
        raise SettingsError(f"detector.lmd.preset is {table['preset']!r}; there are {', '.join(PRESETS)}")
    preset = json.loads(json.dumps(asdict(PRESETS[table["preset"]])))
    return {**values, "detector": {**detector, "lmd": merge(preset, own)}}


def to_mapping(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them; ``from_mapping`` is its inverse."""
    mapping: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return mapping


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with the nested ``changes`` put over it."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merge(base[key], value) if both else value
    return result


def only(kind: type, *given: type) -> Callable[[object], object]:
    """Make a setting of one type from TOML's and JSON's types for it and from no others.

    An integer is a valid float; but True is no integer and a string no list, although Python would have them so.
    """

    def convert(value: object) -> object:
        if type(value) not in given:
            raise dacite.WrongTypeError(kind, value)
        made: object = (get_origin(kind) or kind)(value)
        return made

    return convert


HOOKS: dict[Any, Callable[[Any], Any]] = {int: only(int, int), float: only(float, int, float)} | {
    kind: only(kind, list, tuple)
    for kind in (tuple[str, ...], tuple[int, ...], tuple[float, ...], tuple[tuple[str, ...], ...])
}
