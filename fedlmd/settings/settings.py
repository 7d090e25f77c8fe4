"""All settings of a run: one TOML file, read once, checked whole, an unknown key being an error."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_origin

import dacite

from fedlmd.calibration import CalibrationConfig
from fedlmd.data import DataConfig
from fedlmd.detection import DETECTORS, PRESETS, DetectorConfig
from fedlmd.diffusion import Schedule, ScheduleConfig, timesteps
from fedlmd.federation.config import FederationConfig
from fedlmd.models import ClassifierConfig, DenoiserConfig, ModelConfig, NetworksConfig
from fedlmd.training import AugmentationConfig, TrainingConfig

DIGITS = tuple("0123456789")


class SettingsError(ValueError):
    """A setting that is unknown, of the wrong type or out of range."""


@dataclass(frozen=True)
class Settings:
    """Everything that determines a run.

    Args:
        labels: labels that the classifier distinguishes and the detector knows, in the order of its outputs.
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
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels is {list(self.labels)}; give at least two, none of them twice")
        if self.channels not in (1, 3):
            raise ValueError(f"channels is {self.channels}; it is 1 (grey) or 3 (RGB)")
        _ = self.networks  # its parts check themselves
        for name in self.detector.calibrated:
            DETECTORS.check(name)
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
    def networks(self) -> NetworksConfig:
        """Shape of both networks, and the seed of their initial weights."""
        models, shape = self.models, (self.image_size, self.channels, len(self.labels))
        return NetworksConfig(
            ClassifierConfig(
                *shape, models.classifier, views=models.views, head=models.head, network=models.classifier_network
            ),
            DenoiserConfig(*shape, models.denoiser, models.blocks, network=models.denoiser_network),
            self.seed,
        )

    def training_of(self, part: str) -> TrainingConfig:
        """How one of the two networks is trained, "classifier" or "denoiser"."""
        return {"classifier": self.classifier, "denoiser": self.denoiser}[part]

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
    """Replace ``preset`` in the table ``detector.lmd`` by that preset's settings; the table's other keys come first."""
    detector = values.get("detector")
    if not isinstance(detector, dict) or not isinstance(detector.get("lmd"), dict) or "preset" not in detector["lmd"]:
        return values
    table = dict(detector["lmd"])
    name = table.pop("preset")
    if name not in PRESETS:
        raise SettingsError(f"detector.lmd.preset is {name!r}; there are {', '.join(PRESETS)}")
    preset = json.loads(json.dumps(asdict(PRESETS[name])))
    return {**values, "detector": {**detector, "lmd": merge(preset, table)}}


def to_mapping(settings: Settings) -> dict[str, Any]:
    """The settings as JSON has them; ``from_mapping`` is its inverse."""
    mapping: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return mapping


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with nested ``changes``."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merge(base[key], value) if both else value
    return result


def only(kind: type, *accepted: type) -> Callable[[object], object]:
    """Convert TOML's and JSON's types for a setting to its own, and refuse all others.

    An integer is a valid float; but True is no integer and a string no list, although Python would convert them.
    """

    def convert(value: object) -> object:
        if type(value) not in accepted:
            raise dacite.WrongTypeError(kind, value)
        converted: object = (get_origin(kind) or kind)(value)
        return converted

    return convert


HOOKS: dict[Any, Callable[[Any], Any]] = {int: only(int, int), float: only(float, int, float)} | {
    kind: only(kind, list, tuple)
    for kind in (tuple[str, ...], tuple[int, ...], tuple[float, ...], tuple[tuple[str, ...], ...])
}
