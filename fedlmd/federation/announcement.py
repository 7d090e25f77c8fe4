"""What a worker lets the server know of itself every few seconds, as JSON; whoever sends one may lie."""

from __future__ import annotations

import json
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
            fields = json.loads(data)
            written(fields)
        except (ValueError, RecursionError):
            raise AnnouncementError(
                "an announcement is JSON in UTF-8 with finite numbers, nested a few levels at most"
            ) from None
        if not isinstance(fields, dict):
            raise AnnouncementError("an announcement is a JSON object")
        missing, unknown = sorted(FORMS.keys() - fields.keys()), sorted(fields.keys() - FORMS.keys())
        if missing or unknown:
            wrong = f"lacks {missing[0]!r}" if missing else f"has the unknown field {unknown[0]!r:.60}"
            raise AnnouncementError(f"the announcement {wrong}; its fields are {', '.join(FORMS)}")
        for name, (words, fits) in FORMS.items():
            if not fits(fields[name]):
                raise AnnouncementError(f"the field {name!r} is {words}")
        if isinstance(fields["labels"], list):
            fields["labels"] = tuple(fields["labels"])
        return cls(**fields)


def written(value: object) -> bytes:
    """JSON in UTF-8. Raises ValueError for NaN, the infinities and halves of surrogate pairs, which Python reads."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def name_problem(name: str) -> str | None:
    """Why a worker cannot have this name, in one sentence; None where it can."""
    if '"' in name or "\\" in name:
        return f"the worker's name {name!r} must be without quotation marks and backslashes"
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_NAME:
        return f"the worker's name {name!r:.120} must be 1 to {LONGEST_NAME} printable characters"
    return None


def is_text(value: object, most: int = LONGEST_NAME) -> bool:
    """Whether a value is a text of 1 to ``most`` characters."""
    return isinstance(value, str) and 1 <= len(value) <= most


def is_count(value: object) -> bool:
    """Whether a value is a whole number that JSON's readers all read alike, 0 or more."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT


def is_time(value: object) -> bool:
    """Whether a value is a number of seconds since 1970."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


def are_labels(value: object) -> bool:
    """Whether a value is a list of labels, or an object with a count for each."""
    if not isinstance(value, list | dict) or len(value) > MOST_LABELS:
        return False
    counts = value.values() if isinstance(value, dict) else ()
    return all(is_text(label, LONGEST_LABEL) for label in value) and all(map(is_count, counts))


def are_facts(value: object) -> bool:
    """Whether a value is an object that is neither large nor deep."""
    return isinstance(value, dict) and is_shallow(value, DEEPEST) and len(written(value)) <= LARGEST_FACTS


def is_shallow(value: object, most: int) -> bool:
    """Whether JSON is nested at most so deep."""
    if not isinstance(value, dict | list):
        return True
    parts = value.values() if isinstance(value, dict) else value
    return most > 0 and all(is_shallow(part, most - 1) for part in parts)


def is_work(value: object) -> bool:
    """Whether a value says stage, steps done and steps in all."""
    if not isinstance(value, dict) or value.keys() != {"stage", "done", "total"}:
        return False
    return is_text(value["stage"]) and is_count(value["done"]) and is_count(value["total"])


NAME = (f"a text of 1 to {LONGEST_NAME} characters", is_text)
FORMS: dict[str, tuple[str, Callable[[object], bool]]] = {
    "name": NAME,
    "instance": NAME,
    "version": NAME,
    "flower": NAME,
    "clock": ("a number of seconds since 1970", is_time),
    "labels": (
        f"null, a list of labels or an object with a count for each, {MOST_LABELS:,} at most, a label being a text of "
        f"1 to {LONGEST_LABEL} characters",
        lambda value: value is None or are_labels(value),
    ),
    "images": (
        f"null or an object, nested at most {DEEPEST} levels deep, of at most {LARGEST_FACTS:,} bytes",
        lambda value: value is None or are_facts(value),
    ),
    "problem": (
        f"null or a text of 1 to {LONGEST_SENTENCE} characters",
        lambda value: value is None or is_text(value, LONGEST_SENTENCE),
    ),
    "doing": ("null or an object of stage, done and total", lambda value: value is None or is_work(value)),
    "leaving": ("true or false", lambda value: isinstance(value, bool)),
}
"""What each field is, in words, and whether a value is that."""
