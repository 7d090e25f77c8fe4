"""All settings of a run: one TOML file, read once, checked whole, an unknown key being an error."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_origin

import dacite

from fedlmd.calibration import CalibrationConfig
from fedlmd.choices import between
from fedlmd.data import AUTO, Choice, DataConfig, Facts, ImagesConfig, PixelRules, choose_rules, normal_label
from fedlmd.detection import DETECTORS, PRESETS, DetectorConfig
from fedlmd.diffusion import Schedule, ScheduleConfig, timesteps
from fedlmd.federation.config import FederationConfig
from fedlmd.models import (
    CONTINUING,
    LIMIT,
    WITH_THUMBNAIL,
    ClassifierConfig,
    DenoiserConfig,
    EncoderConfig,
    ModelConfig,
    NetworksConfig,
)
from fedlmd.settings.encoder import PIXELS, chosen_encoder, is_usual, measured
from fedlmd.settings.errors import SettingsError, check_keys, line_of, sections, within, wrong_type, wrong_value
from fedlmd.training import IMAGES, THUMBNAILS, TrainingConfig, for_latents

T = TypeVar("T")

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Settings:
    """Everything that determines a run.

    Args:
        labels: labels that the classifier distinguishes and the detector knows, in the order of its outputs.
        image_size: images are brought to this height and width, in pixels; "auto" chooses a size by the images.
        channels: 1 (grey) or 3 (RGB); "auto" chooses by the images.
        encoder: what turns images into the latents that both networks work on; "auto" chooses by the images.
        seed: of initial weights, shuffling, noise; 0 to 2**32 - 1.
    """

    labels: tuple[str, ...] = DIGITS
    image_size: int | str = AUTO
    channels: int | str = AUTO
    seed: int = 0
    images: ImagesConfig = field(default_factory=ImagesConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    models: ModelConfig = field(default_factory=ModelConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    classifier: TrainingConfig = IMAGES["classifier"]
    denoiser: TrainingConfig = IMAGES["denoiser"]
    thumbnails: TrainingConfig = THUMBNAILS
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    calibration: CalibrationConfig = field(default_factory=CalibrationConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(map(normal_label, self.labels)))
        between(self, 0, 2**32 - 1, "seed")
        if len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels is {list(self.labels)}; give at least two, none of them twice")
        if self.channels not in (1, 3, AUTO):
            raise ValueError(f'channels is {self.channels!r}; it is 1 (grey), 3 (RGB) or "auto"')
        if isinstance(self.image_size, str) and self.image_size != AUTO:
            raise ValueError(f'image_size is {self.image_size!r}; it is a whole number or "auto"')
        usual = is_usual(self.encoder) or self.encoder.name == AUTO
        if self.models.classifier_network in CONTINUING and not usual:
            raise ValueError(
                f"classifier_network is {self.models.classifier_network!r}, which continues the encoder "
                '"efficientnet-lite0" with its default layers; take "cnn", or that encoder'
            )
        for name in self.detectors.calibrated:
            DETECTORS.check(name)
        networks = self.networks
        lmd, stages = self.detector.lmd, range(len(networks.classifier.widths))
        timesteps(self.noise, lmd.inpainting.steps, lmd.inpainting.start)
        size = networks.denoiser.image_size
        if not 2 <= lmd.cells <= size:
            what = "latents of {0} x {0} cells" if self.has_latents else "images of {0} pixels"
            raise ValueError(f"cells is {lmd.cells}; {what.format(size)} take 2 to {size}")
        if not self.detector.feature_stages or not set(self.detector.feature_stages) <= {*stages, -1}:
            raise ValueError(
                f"feature_stages is {list(self.detector.feature_stages)}; "
                f"the classifier has the stages {list(stages)}, and -1 is the last"
            )

    @property
    def networks(self) -> NetworksConfig:
        """Shape of both networks, the seed of their initial weights, and the encoder before them."""
        rules, encoder = self.pixel_rules, self.encoder
        models = self.models.chosen(latents=self.has_latents, continues=self.has_latents and is_usual(encoder))
        inputs = (encoder.side, encoder.channels, 1) if self.has_latents else (rules.size, rules.channels, 2)
        names = ("image_size", "channels", "patch", "classes")
        shape: dict[str, Any] = dict(zip(names, (*inputs, len(self.labels)), strict=True))
        head: dict[str, Any] = {"widths": models.classifier, "views": models.views, "head": models.head}
        if models.classifier_network in WITH_THUMBNAIL and encoder.thumbnail_channels:
            head |= {"channels": encoder.channels + encoder.thumbnail_channels, "thumbnail": encoder.thumbnail}
        options = dict(models.denoiser_options)
        if options:  # a network of another package may need the run's noise levels
            options["alphas_cumprod"] = self.noise.alphas_cumprod.tolist()
        unet: dict[str, Any] = {"widths": models.denoiser, "blocks": models.blocks, "options": options}
        return NetworksConfig(
            ClassifierConfig(**(shape | head), network=models.classifier_network),
            DenoiserConfig(**shape, **unet, network=models.denoiser_network),
            self.seed,
            encoder,
        )

    @property
    def detectors(self) -> DetectorConfig:
        """The detectors' settings without "auto"."""
        thumbnails, gaussians = self.networks.classifier.thumbnail > 0, self.federation.merge == "rounds"
        return self.detector.chosen(latents=self.has_latents, thumbnails=thumbnails, gaussians=gaussians)

    @property
    def has_latents(self) -> bool:
        """Whether the networks work on an encoder's latents, whose shape is known, rather than on images."""
        return self.encoder.side > 0

    @property
    def noise(self) -> Schedule:
        """The noise levels of the denoiser."""
        return Schedule(self.schedule, LIMIT if self.has_latents else 1.0)

    @property
    def pixel_rules(self) -> PixelRules:
        """How pixels are made of images; for "auto" the rules of the digits, until ``resolved`` has chosen others."""
        return self.choose(()).rules

    def choose(self, facts: Sequence[Facts]) -> Choice:
        """Rules for pixels by these settings and, for every "auto", by what the workers' images look like."""
        widths = self.models.chosen(latents=False).denoiser
        multiple = DenoiserConfig.patch * 2 ** max(0, len(widths) - 1)
        encoded = self.encoder.name not in (AUTO, PIXELS)
        return choose_rules(self.image_size, self.channels, self.images, facts, None if encoded else multiple)

    def resolved(self, facts: Sequence[Facts]) -> tuple[Settings, tuple[str, ...]]:
        """The same settings without "auto", and what is to be said of the choice, one sentence each.

        Args:
            facts: of each worker's images.

        Raises:
            EncoderError: the run's encoder cannot be loaded here, or cannot take its images.
        """
        encoder, said = chosen_encoder(self.encoder, self.image_size, facts)
        choice = replace(self, encoder=encoder).choose(facts)
        rules = choice.rules
        images = ImagesConfig(rules.background, rules.window or "full", rules.fit, rules.invert)  # type: ignore[arg-type]
        encoder = measured(encoder, rules)
        fixed: dict[str, Any] = {
            "image_size": rules.size,
            "channels": rules.channels,
            "images": images,
            "encoder": encoder,
        }
        latents = encoder.side > 0
        fixed["models"] = self.models.chosen(latents=latents, continues=latents and is_usual(encoder))
        if latents:
            fixed |= {part: for_latents(part, self.training_of(part)) for part in IMAGES}
        settings = replace(self, **fixed)
        return replace(settings, detector=settings.detectors), (*said, *choice.notes)

    @property
    def is_resolved(self) -> bool:
        """Whether no rule for pixels, no network and no encoder is open."""
        images, models = self.images, self.models
        rules = (self.image_size, self.channels, images.background, images.window, images.fit)
        networks = (models.classifier, models.denoiser, models.views, models.head, models.classifier_network)
        encoded = self.encoder.name == PIXELS or (self.encoder.name != AUTO and bool(self.encoder.digest))
        return encoded and AUTO not in (*rules, *networks)

    def training_of(self, part: str) -> TrainingConfig:
        """How a network is trained: "classifier", its network of "thumbnails", or "denoiser"."""
        return {"classifier": self.classifier, "thumbnails": self.thumbnails, "denoiser": self.denoiser}[part]

    def with_labels(self, labels: tuple[str, ...]) -> Settings:
        """The same settings for another list of labels."""
        return replace(self, labels=labels)


def read(path: Path) -> Settings:
    """Read a run's TOML file; what it leaves out keeps its default.

    Raises:
        SettingsError: naming the file, the line where that is known, and the key.
    """
    text = ""
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark before the text
        return from_mapping(tomllib.loads(text))
    except FileNotFoundError:
        raise SettingsError(f"there is no settings file {path}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except SettingsError as error:
        line = line_of(text, error.place) if error.place else None
        raise SettingsError(f"{path}{f', line {line}' if line else ''}: {error}", error.place) from None
    except RecursionError:
        raise SettingsError(f"{path}: its lists or tables are nested too deeply") from None
    except ValueError as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from None


def from_mapping(values: dict[str, Any]) -> Settings:
    """Settings from nested dictionaries, as TOML and JSON give them.

    Raises:
        SettingsError: on an unknown key, a wrong type or a value out of range; it names the key with its tables.
    """
    if not isinstance(values, dict):
        raise SettingsError(f"settings are a table of keys and values, not {values!r}")
    check_keys(Settings, values)
    # Partial tables keep the defaults of the run, which for the two trainings differ from the class's own.
    return build_section(Settings, merge(to_mapping(Settings()), with_preset(values)), "")


def build_section(section: type[T], values: dict[str, Any], place: str) -> T:
    """A section from its whole table. The sections in it come first, so that the place of an error is known.

    Args:
        section: its class.
        values: its keys and tables, all of them known.
        place: of the section, such as "data.partition"; "" for the top.

    Raises:
        SettingsError: on a wrong type or a value out of range.
    """
    parts = sections(section).items()
    built = {name: build_section(kind, values[name], within(place, name)) for name, kind in parts}
    try:
        return dacite.from_dict(section, {**values, **built}, dacite.Config(strict=True, type_hooks=HOOKS))
    except dacite.WrongTypeError as error:
        key = str(error.field_path).partition(".")[0]
        raise wrong_type(section, place, key, values[key]) from None
    except (ValueError, TypeError) as error:
        raise wrong_value(section, place, values, str(error)) from None


def with_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Replace ``preset`` in the table ``detector.lmd`` by that preset's settings; the table's other keys come first."""
    detector = values.get("detector")
    if not isinstance(detector, dict) or not isinstance(detector.get("lmd"), dict) or "preset" not in detector["lmd"]:
        return values
    table = dict(detector["lmd"])
    name = table.pop("preset")
    if not isinstance(name, str) or name not in PRESETS:
        raise SettingsError(f"detector.lmd.preset is {name!r}; there are {', '.join(PRESETS)}", "detector.lmd.preset")
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
        try:
            converted: object = (get_origin(kind) or kind)(value)
        except OverflowError:  # an integer beyond all floats
            raise dacite.WrongTypeError(kind, value) from None
        return converted

    return convert


HOOKS: dict[Any, Callable[[Any], Any]] = {int: only(int, int), float: only(float, int, float)} | {
    kind: only(kind, list, tuple)
    for kind in (tuple[str, ...], tuple[int, ...], tuple[float, ...], tuple[tuple[str, ...], ...])
}
