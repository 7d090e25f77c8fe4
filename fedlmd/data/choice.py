"""The rules for pixels that a run leaves open, chosen by what the images look like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedlmd.data.config import AUTO, ImagesConfig
from fedlmd.data.facts import Facts, pooled
from fedlmd.data.pixel_rules import PixelRules

SMALLEST, LARGEST = 16, 32
"""Sides that are chosen lie between these, in pixels: two processor cores train and predict such images in minutes."""

ENCODED = 160
"""Side of the images that an encoder gets, in pixels, where a run leaves it open."""

SHARE = 0.05
"""From this share of the images on, a property of images counts."""


@dataclass(frozen=True)
class Choice:
    """Rules that were chosen for a run.

    Args:
        rules: the rules.
        notes: what was chosen and why, one sentence for each choice that changes images.
    """

    rules: PixelRules
    notes: tuple[str, ...] = ()


def choose_rules(
    size: int | str,
    channels: int | str,
    config: ImagesConfig,
    facts: Sequence[Facts] = (),
    multiple: int | None = 4,
) -> Choice:
    """Replace every "auto" by what images suggest; without facts by the rules of the digits.

    Args:
        size: ``image_size`` of a run, or "auto".
        channels: ``channels`` of a run, or "auto".
        config: the other rules.
        facts: of each worker's images.
        multiple: sides that the networks take are multiples of this; None where an encoder gets the images, which has
            a size of its own and takes RGB.
    """
    all_facts, notes = pooled(facts), list[str]()
    if multiple is None:
        side = ENCODED if isinstance(size, str) else size
        chosen = 3 if isinstance(channels, str) else channels
    else:
        side = chosen_size(size, all_facts, multiple, notes)
        chosen = chosen_channels(channels, all_facts, notes)
    background = chosen_background(config, all_facts, notes)
    fit = chosen_fit(config, all_facts, background, notes)
    window = chosen_window(config, all_facts, notes)
    rules = PixelRules(side, chosen, background, window, fit, config.invert)
    return Choice(rules, (*notes, *disagreements(facts)))


def chosen_size(size: int | str, facts: Facts, multiple: int, notes: list[str]) -> int:
    """The side of the images."""
    if not isinstance(size, str):
        return size
    if not facts.images:
        return math.ceil(28 / multiple) * multiple
    chosen = max(SMALLEST, min(LARGEST, int(facts.side))) // multiple * multiple or multiple
    if abs(facts.side - chosen) >= 1:
        notes.append(
            f"images are brought from {facts.side:.0f} to {chosen} pixels, by the median of their shorter sides "
            "(image_size sets another size)"
        )
    return chosen


def chosen_channels(channels: int | str, facts: Facts, notes: list[str]) -> int:
    """Grey or RGB."""
    if not isinstance(channels, str):
        if channels == 1 and facts.colour > 0:
            notes.append(
                f"{percent(facts.colour)} of the images are in colour and are read as grey (channels = 3 keeps colour)"
            )
        return channels
    chosen, words = (3, "RGB") if facts.colour >= SHARE else (1, "grey")
    if 0 < facts.colour < 1:
        notes.append(
            f"{percent(facts.colour)} of the images are in colour; all are read as {words} "
            f"(channels = {4 - chosen} changes that)"
        )
    return chosen


def chosen_background(config: ImagesConfig, facts: Facts, notes: list[str]) -> str:
    """The colour below transparent images and of bars."""
    chosen = config.background
    if chosen == AUTO:
        bright = facts.dark_ink > 0.5 if facts.transparent >= SHARE else facts.light > 0.5
        chosen = "white" if bright else "black"
    if facts.transparent > 0:
        notes.append(
            f"{percent(facts.transparent)} of the images are transparent and are laid over {chosen} (images.background)"
        )
    if facts.transparent > 0 and SHARE < facts.dark_ink < 1 - SHARE:
        notes.append(
            f"{percent(facts.dark_ink)} of the transparent images have dark ink and the others light ink: some can "
            f"hardly be seen on {chosen}; lay them over a background of their own at their source"
        )
    return chosen


def chosen_fit(config: ImagesConfig, facts: Facts, background: str, notes: list[str]) -> str:
    """How images become squares."""
    chosen = config.fit
    if chosen == AUTO:
        chosen = "crop" if facts.oblong >= SHARE and facts.plain < 0.5 else "pad"
    if facts.oblong > 0:
        words = {"pad": f"get {background} bars", "crop": "are cut to their centre", "stretch": "are stretched"}[chosen]
        notes.append(f"{percent(facts.oblong)} of the images are not square and {words} (images.fit)")
    return chosen


def chosen_window(config: ImagesConfig, facts: Facts, notes: list[str]) -> tuple[float, float] | None:
    """The values that become black and white, in images with more than 8 bits."""
    if not isinstance(config.window, str):
        return config.window[0], config.window[1]
    if config.window != AUTO or not facts.deep:
        return None
    if 0 <= facts.low <= facts.high / 2:
        low, high = 0.0, white_above(facts.high)
    else:
        low, high = float(facts.low), float(facts.high if facts.low < facts.high else facts.low + 1)
    notes.append(
        f"{percent(facts.deep)} of the images have more than 8 bits: their values {low:g} to {high:g} become black to "
        "white (images.window)"
    )
    return low, high


def white_above(highest: float) -> float:
    """The value that becomes white where black is 0: 1, or the largest of 8, 9, 10 bits and so on, by what fits."""
    nearly = highest / 1.01  # values that were resized can lie a little above
    if nearly >= 127:
        return float(2 ** math.ceil(math.log2(nearly + 1)) - 1)
    return 1.0 if 0.5 < nearly <= 1 else highest or 1.0


def percent(share: float) -> str:
    """A share above 0 in words; those below 1% and above 99% do not become none and all."""
    return "less than 1%" if share < 0.01 else "more than 99%" if 0.99 < share < 1 else f"{share:.0%}"


def disagreements(facts: Sequence[Facts]) -> list[str]:
    """What is to be said where workers' images differ in kind."""
    known = [each for each in facts if each.images]
    if len({each.light > 0.5 for each in known}) < 2:
        return []
    return [
        "some workers' images have a light background and others' a dark one: one classifier then learns both; "
        "if the subjects are the same, invert the images of some at their source"
    ]
