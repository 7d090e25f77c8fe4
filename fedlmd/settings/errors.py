"""What is said of a wrong setting: its place in the file, its value, and what is allowed there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from datetime import date, time
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

# Keys of a table that are no fields of its class.
MORE_KEYS = {"detector.lmd": ("preset",)}
# What the networks and samplers call settings that have another name in the file.
OTHER_NAMES = {
    "widths": ("models.classifier", "models.denoiser"),
    "sampling steps": ("detector.lmd.inpainting.steps",),
}
WORDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false", dict: "a table"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
# Characters of a value that a message shows.
LONGEST = 60


class SettingsError(ValueError):
    """A setting that is unknown, of the wrong type or out of range.

    Args:
        sentence: what is wrong, and what is allowed.
        place: the key, such as "data.partition.kind"; "" where it is none.
    """

    def __init__(self, sentence: str, place: str = "") -> None:
        super().__init__(sentence)
        self.place = place


def kinds(section: type) -> dict[str, Any]:
    """The types of a section's fields by their names; a type that is a dataclass is a section in it."""
    return get_type_hints(section)


def sections(section: type) -> dict[str, type[Any]]:
    """The classes of the sections in a section by their names."""
    return {name: kind for name, kind in kinds(section).items() if isinstance(kind, type) and is_dataclass(kind)}


def within(place: str, key: str) -> str:
    """The place of a key in a section, such as "data.partition.kind"; the top's own place is ""."""
    name = key if re.fullmatch(r"[\w-]+", key) else json.dumps(key, ensure_ascii=False)
    return f"{place}.{name}" if place else name


def places(section: type, place: str = "") -> Iterator[str]:
    """The places of all keys of a section and of those in it."""
    parts = sections(section)
    for name in kinds(section):
        here = within(place, name)
        yield from places(parts[name], here) if name in parts else (here,)


def check_keys(section: type, values: Mapping[str, Any]) -> None:
    """Refuse keys that the settings do not have, and other values where a table must be.

    Args:
        section: class of all settings.
        values: their tables.

    Raises:
        SettingsError: that explains the first wrong key and names the others.
    """
    wrong = list(wrong_keys(section, section, values, ""))
    if wrong:
        (place, sentence), *others = wrong
        rest = f"; also wrong: {', '.join(other for other, _ in others)}" if others else ""
        raise SettingsError(sentence + rest, place)


def wrong_keys(top: type, section: type, values: Mapping[str, Any], place: str) -> Iterator[tuple[str, str]]:
    """The place of each wrong key, with a sentence on it; ``top`` is the class of all settings."""
    parts, known = sections(section), [*kinds(section), *MORE_KEYS.get(place, ())]
    for key, value in values.items():
        here = within(place, key)
        if key not in known:
            yield here, f"{here}: there is no such key; {keys_of(section, place)}{suggestion(top, section, here)}"
        elif key in parts and isinstance(value, Mapping):
            yield from wrong_keys(top, parts[key], value, here)
        elif key in parts:
            yield here, f"{here} is {shown(value)}; it must be a table, and {keys_of(parts[key], here)}"


def keys_of(section: type, place: str) -> str:
    """What a section has, in words."""
    parts = sections(section)
    keys = sorted({*kinds(section), *MORE_KEYS.get(place, ())} - {*parts})
    tables = [f"[{within(place, name)}]" for name in parts]
    return f"{f'[{place}]' if place else 'the top of the file'} has {', '.join(keys + tables)}"


def suggestion(top: type, section: type, here: str) -> str:
    """What an unknown key may have been meant to be: a key of that name in another section, or a similar one here."""
    place, _, key = here.rpartition(".")
    same = [other for other in places(top) if other.rpartition(".")[2] == key]
    similar = get_close_matches(key.lower(), [*kinds(section), *MORE_KEYS.get(place, ())], n=1, cutoff=0.7)
    if 0 < len(same) <= 2:
        return f" (did you mean {' or '.join(same)}?)"
    return f' (did you mean "{similar[0]}"?)' if similar else ""


def wrong_type(section: type, place: str, key: str, value: object) -> SettingsError:
    """The error for a value of a wrong type."""
    here = within(place, key)
    return SettingsError(f"{here} is {shown(value)}; it must be {in_words(kinds(section)[key])}", here)


def wrong_value(section: type, place: str, values: Mapping[str, Any], message: str) -> SettingsError:
    """The error for a value out of range, from the message of a section's class, which names its own field only.

    Args:
        section: the class.
        place: of the section.
        values: its table.
        message: such as "held_back is 2; it lies in (0, 0.5]".
    """
    first = (re.match(r"\w+", message) or [""])[0]
    named = [here for here in places(section, place) if here.rpartition(".")[2] == first]
    at = within(place, first)
    if at in named or len(named) == 1:
        here = at if at in named else named[0]
        return SettingsError(here + message.removeprefix(first), here)
    others = [here for words, known in OTHER_NAMES.items() if words in message for here in known]
    for here in others or places(section, place):
        if len(others) == 1 or mentioned(value_at(values, here, place), message):
            return SettingsError(f"{here}: {message}", here)
    return SettingsError(f"[{place}]: {message}" if place else message, place)


def value_at(values: Mapping[str, Any], here: str, place: str) -> object:
    """The value of a key in a section's table, from the key's place and the section's; None where there is none."""
    value: Any = values
    for key in here.removeprefix(f"{place}.").split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def mentioned(value: object, message: str) -> bool:
    """Whether a message has a text, one of a list's texts, or a list of numbers as a tuple."""
    items = value if isinstance(value, list) else [value]
    texts = [item for item in items if isinstance(item, str)]
    numbers = isinstance(value, list) and not texts
    return f" {tuple(items)} " in message if numbers else any(repr(text) in message for text in texts)


def shown(value: object) -> str:
    """A value as the file has it, shortened."""
    if isinstance(value, date | time):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def in_words(kind: Any) -> str:  # noqa: ANN401 - a type expression
    """What a value of a type is, in words."""
    if get_origin(kind) is Literal:
        *first, last = map(json.dumps, get_args(kind))
        return f"{', '.join(first)} or {last}" if first else last
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(in_words(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        return f"a list of {PLURALS[item]}" if item in PLURALS else f"a list of lists of {PLURALS[get_args(item)[0]]}"
    return WORDS[get_origin(kind) or kind]


def line_of(text: str, place: str) -> int | None:
    """The line of a TOML file, from 1, that sets a key; None where that cannot be had by reading it line by line."""
    if '"""' in text or "'''" in text:
        return None
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        head, key = re.match(r"\s*\[\[?([^\[\]]+)\]", line), re.match(r"\s*([^=#\[]+?)\s*=", line)
        if head:
            section = re.sub(r"\s*\.\s*", ".", head[1].strip())
        here = section if head else f"{section}.{key[1]}".lstrip(".") if key else ""
        # A dotted key, or a table in braces, sets what is in it.
        if here and (here == place or (key and place.startswith(f"{here}."))):
            return number
    return None
