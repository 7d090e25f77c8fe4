"""What a worker lets the server know of itself every few seconds, as JSON; whoever sends one may lie."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

PATH = "/v1/fedlmd/workers"
"""Where the server takes announcements and lists the workers."""
LARGEST = 256 * 1024
"""Bytes of an announcement."""
LONGEST_NAME, LONGEST_LABEL, LONGEST_SENTENCE, LARGEST_FACTS = 100, 255, 1_000, 4 * 1024
MOST_LABELS = 10_000
DEEPEST = 8
LARGEST_COUNT = 2**53

Labels = Mapping[str, int] | tuple[str, ...]
"""A worker's labels: with the number of images of each, or alone."""
Form = Callable[[str, object], Any]
"""Returns the value of a field, given the field's name and what was sent. Raises AnnouncementError."""


class AnnouncementError(ValueError):
    """An announcement of the wrong form; the text says in one sentence what is wrong."""


@dataclass(frozen=True)
class Announcement:
    """The state of a worker.

    Args:
        name: the worker's name.
        instance: random id of its process.
        version: of this package.
        flower: version of Flower.
        clock: its time, in seconds since 1970.
        labels: its labels, as far as its settings let the server know them; None for nothing.
        images: what its images are like, as JSON; None where it lets nobody know.
        problem: why its images cannot be used, in one sentence; None where they can.
        doing: stage, steps done and steps in all of what its trainer does; None when it is idle.
        leaving: whether its process ends.
    """

    name: str
    instance: str
    version: str
    flower: str
    clock: float
    labels: Labels | None = None
    images: dict[str, Any] | None = None
    problem: str | None = None
    doing: dict[str, Any] | None = None
    leaving: bool = False

    def to_json(self) -> bytes:
        """The announcement as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace")

    @classmethod
    def from_json(cls, data: bytes) -> Announcement:
        """An announcement from JSON of unknown origin.

        Raises:
            AnnouncementError: when it is too large, no JSON, or a field is missing, unknown or of the wrong form.
        """
        if len(data) > LARGEST:
            raise AnnouncementError(f"an announcement has at most {LARGEST:,} bytes")
        try:
            fields = json.loads(data, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            raise AnnouncementError("an announcement is JSON in UTF-8, nested a few levels at most") from None
        if not isinstance(fields, dict):
            raise AnnouncementError("an announcement is a JSON object")
        missing, unknown = sorted(FORMS.keys() - fields.keys()), sorted(fields.keys() - FORMS.keys())
        if missing or unknown:
            wrong = f"lacks {missing[0]!r}" if missing else f"has the unknown field {unknown[0]!r:.60}"
            raise AnnouncementError(f"the announcement {wrong}; its fields are {', '.join(FORMS)}")
        return cls(**{name: form(name, fields[name]) for name, form in FORMS.items()})


def name_problem(name: str) -> str | None:
    """Why a worker cannot have this name, in one sentence; None where it can."""
    if '"' in name or "\\" in name:
        return f"the worker's name {name!r} must be without quotation marks and backslashes"
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        return f"the worker's name {name!r:.120} must be 1 to {LONGEST_NAME} printable characters"
    return None


def refuse_constant(name: str) -> float:
    """Refuse what Python's JSON accepts beyond the standard: NaN and the infinities."""
    raise ValueError(f"{name} is no JSON")


def text(most: int) -> Form:
    """A form: a text of 1 to ``most`` characters."""

    def check(field: str, value: object) -> str:
        if not isinstance(value, str) or not 1 <= len(value) <= most or not is_text(value):
            raise AnnouncementError(f"the field {field!r} is a text of 1 to {most} characters")
        return value

    return check


def is_text(value: str) -> bool:
    """Whether a string can be written in UTF-8: JSON can hold half a surrogate pair."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def or_none(form: Form) -> Form:
    """A form: null, or what another form accepts."""
    return lambda field, value: None if value is None else form(field, value)


def seconds(field: str, value: object) -> float:
    """A form: seconds since 1970."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise AnnouncementError(f"the field {field!r} is a number of seconds since 1970")
    return float(value)


def labels_of(field: str, value: object) -> Labels:
    """A form: a list of labels, or a count for each label."""
    wrong = f"the field {field!r} is null, a list of labels or an object with a count for each, {MOST_LABELS:,} at most"
    if not isinstance(value, list | dict) or len(value) > MOST_LABELS:
        raise AnnouncementError(wrong)
    for label in value:
        text(LONGEST_LABEL)(field, label)
    if isinstance(value, list):
        return tuple(value)
    if not all(is_count(count) for count in value.values()):
        raise AnnouncementError(wrong)
    return dict(value)


def is_count(value: object) -> bool:
    """Whether a value is a whole number that JSON's readers all read alike, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def facts(field: str, value: object) -> dict[str, Any]:
    """A form: an object that is neither large nor deep."""
    if not isinstance(value, dict) or not is_shallow(value, DEEPEST):
        raise AnnouncementError(f"the field {field!r} is null or an object, nested at most {DEEPEST} levels deep")
    written = json.dumps(value, ensure_ascii=False)
    if not is_text(written) or len(written.encode()) > LARGEST_FACTS:
        raise AnnouncementError(f"the field {field!r} has at most {LARGEST_FACTS:,} bytes")
    return value


def is_shallow(value: object, most: int) -> bool:
    """Whether JSON is nested at most so deep and holds finite numbers only."""
    if isinstance(value, dict | list):
        parts = value.values() if isinstance(value, dict) else value
        return most > 0 and all(is_shallow(part, most - 1) for part in parts)
    return not isinstance(value, float) or math.isfinite(value)


def work(field: str, value: object) -> dict[str, Any]:
    """A form: stage, steps done and steps in all."""
    if isinstance(value, dict) and value.keys() == {"stage", "done", "total"}:
        text(LONGEST_NAME)(field, value["stage"])
        if is_count(value["done"]) and is_count(value["total"]):
            return value
    raise AnnouncementError(f"the field {field!r} is null or an object of stage, done and total")


def truth(field: str, value: object) -> bool:
    """A form: true or false."""
    if not isinstance(value, bool):
        raise AnnouncementError(f"the field {field!r} is true or false")
    return value


FORMS: dict[str, Form] = {
    "name": text(LONGEST_NAME),
    "instance": text(LONGEST_NAME),
    "version": text(LONGEST_NAME),
    "flower": text(LONGEST_NAME),
    "clock": seconds,
    "labels": or_none(labels_of),
    "images": or_none(facts),
    "problem": or_none(text(LONGEST_SENTENCE)),
    "doing": or_none(work),
    "leaving": truth,
}
"""The form of each field."""
