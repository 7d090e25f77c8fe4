"""Labels as text: their normal form, their order, and those that look alike."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence


def normal_label(name: str) -> str:
    """A label's normal form: composed characters (Unicode NFC), no space at the ends, single spaces within.

    Bytes of a file's name that are not UTF-8, and control characters, become U+FFFD: the former could be neither logged
    nor written into a release, and a terminal would obey the latter.
    """
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    words = " ".join(unicodedata.normalize("NFC", text).split())
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in words)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10: each run of digits is compared by its length first."""
    parts = re.split("([0-9]+)", name)
    key = [
        (0, part) if position % 2 == 0 else (len(part.lstrip("0")), part.lstrip("0"))
        for position, part in enumerate(parts)
    ]
    return [*key, (0, name)]


def alike(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of labels that differ only in case, leading zeros, or what Unicode takes for the same character (NFKC)."""
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        folded = unicodedata.normalize("NFKC", name).casefold()
        groups[re.sub("(?<![0-9])0+(?=[0-9])", "", folded)].add(name)
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


def label_notes(raw: Sequence[str]) -> list[str]:
    """What is to be said of label names as they were given: those that were changed, and those that look alike."""
    forms: dict[str, set[str]] = defaultdict(set)
    for name in raw:
        forms[normal_label(name)].add(name)
    notes = []
    for label, group in forms.items():
        # Forms of Unicode look the same when they are printed: there is nothing to see or mend.
        shown = sorted({unicodedata.normalize("NFC", name) for name in group})
        if shown != [label]:
            verb = "are one label" if len(shown) > 1 else "is the label"
            notes.append(f"{' and '.join(map(repr, shown))} {verb} {label!r}")
    for names in alike(forms):
        notes.append(
            f"the labels {' and '.join(map(repr, names))} look alike and are taken for different ones; "
            "if they are one, give them one name"
        )
    return notes
