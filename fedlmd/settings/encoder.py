"""Which encoder a run has, by what the workers' images look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedlmd.data import AUTO, Facts, PixelRules
from fedlmd.data.facts import pooled
from fedlmd.models import LEADING, EncoderConfig, EncoderError, load_encoder, shape

PIXELS, PHOTOGRAPHS = "pixels", "efficientnet-lite0"

COLOURED = 0.5
"""From this share of images in colour on, they count as photographs."""

SMALL, LARGE = 28, 64
"""From the one side on images in colour count as photographs, from the other on grey ones, in pixels."""

CHANNELS = 64
"""Channels after whitening of encoders that have no default, where their maps have so many."""

THUMBNAIL = 4
"""Pixels of a thumbnail's side for each cell, with the encoder for photographs."""

SMALLEST = 96
"""Side from which on an encoder has enough cells, in pixels."""


def chosen_encoder(
    config: EncoderConfig, image_size: int | str, facts: Sequence[Facts]
) -> tuple[EncoderConfig, tuple[str, ...]]:
    """The encoder of a run, and what is to be said of the choice.

    "auto" is the encoder for photographs, where images are in colour or large and it is installed; the images
    themselves elsewhere, and where the run has smaller images than an encoder needs.

    Args:
        config: of the run.
        image_size: of the run, in pixels, or "auto".
        facts: of each worker's images.
    """
    if config.name != AUTO:
        return config, ()
    pixels, all_facts = replace(config, name=PIXELS), pooled(facts)
    photographs = all_facts.images > 0 and all_facts.side >= (SMALL if all_facts.colour >= COLOURED else LARGE)
    if not photographs or (not isinstance(image_size, str) and image_size < SMALLEST):
        return pixels, ()
    encoder = replace(config, name=PHOTOGRAPHS)
    try:
        load_encoder(encoder)
    except EncoderError as error:
        return pixels, (
            f"the images look like photographs, for which there is an encoder; it is left out: {error} (encoder.name)",
        )
    return encoder, (
        f"the images look like photographs: both networks work on the maps of the encoder {PHOTOGRAPHS!r} "
        '(encoder.name = "pixels" changes that)',
    )


def measured(config: EncoderConfig, rules: PixelRules) -> EncoderConfig:
    """The configuration with the digest of the encoder's weights and the shape of its maps.

    Args:
        config: names the encoder.
        rules: of the images that it gets.

    Raises:
        EncoderError: the encoder cannot be loaded here, or cannot take such images.
    """
    if config.name == PIXELS:
        return config
    encoder = load_encoder(config)
    features, height, width = shape(encoder, rules.size, rules.channels)
    if height != width:
        raise EncoderError(f"the encoder's maps are {height} x {width}; the networks need square ones")
    usual = is_usual(config)
    leading = (LEADING if usual else 0) if config.leading < 0 else config.leading
    if leading > features:
        raise EncoderError(f"encoder.leading is {leading}, but the maps have {features}; take {features} at most")
    used = leading or features
    channels = config.channels or min(used, LEADING if usual else CHANNELS)
    if channels > used:
        raise EncoderError(f"encoder.channels is {channels}, but the maps have {used}; take {used} at most")
    if config.thumbnail > 0 and not usual:
        raise EncoderError(
            f"encoder.thumbnail is {config.thumbnail}; only the classifier behind the encoder {PHOTOGRAPHS!r} with its "
            "default layers gets a thumbnail, set it to 0"
        )
    thumbnail = (THUMBNAIL * height if usual else 0) if config.thumbnail < 0 else config.thumbnail
    chosen = replace(config, leading=leading, channels=channels, thumbnail=thumbnail)
    try:
        return replace(chosen, digest=encoder.digest, features=features, side=height)
    except ValueError as error:
        raise EncoderError(f"encoder.{error}") from None


def is_usual(config: EncoderConfig) -> bool:
    """Whether the encoder is EfficientNet-Lite0 with its default layers, whose later blocks a classifier can have."""
    return config.name == PHOTOGRAPHS and not config.layers and config.leading in (-1, LEADING)
