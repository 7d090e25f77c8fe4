"""What a setting may be: a number in a range, one of a few words, or a name in a registry that packages extend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, final, get_args

T = TypeVar("T")


def between(
    config: object, low: float, high: float, *names: str, open_low: bool = False, open_high: bool = False
) -> None:
    """Refuse fields of a configuration that lie outside of a range. NaN and infinity lie outside of every range.

    Args:
        config: the configuration.
        low: lowest value.
        high: highest value; ``math.inf`` where there is none.
        *names: of the fields.
        open_low: whether ``low`` itself is refused.
        open_high: whether ``high`` itself is refused.

    Raises:
        ValueError: naming the field, its value and the range.
    """
    if high == math.inf:
        allowed = f"it is above {low:g}" if open_low else f"it is {low:g} or more"
    else:
        allowed = f"it lies in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
    for name in names:
        value = getattr(config, name)
        above = value > low if open_low else value >= low
        below = value < high if open_high or high == math.inf else value <= high
        if not (above and below):
            raise ValueError(f"{name} is {value}; {allowed}")


def one_of(config: object, words: Any, *names: str) -> None:  # noqa: ANN401 - a Literal is no type
    """Refuse fields of a configuration that hold none of a Literal's words.

    Raises:
        ValueError: naming the field, its value and the words.
    """
    for name in names:
        if getattr(config, name) not in get_args(words):
            raise ValueError(f"{name} is {getattr(config, name)!r}; choose one of {', '.join(get_args(words))}")


@final
class Registry(Generic[T]):
    """Named choices: those of this package, and those that installed packages register as entry points.

    Args:
        kind: what is chosen, for messages, such as "detector".
        group: group of the entry points, such as "fedlmd.detectors"; each loads a choice.
        builtin: the package's own choices; an entry point of the same name does not replace one.
    """

    def __init__(self, kind: str, group: str, builtin: Mapping[str, T]) -> None:
        self.kind, self.group, self.builtin = kind, group, dict(builtin)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the package's own first."""
        return tuple(dict.fromkeys([*self.builtin, *sorted(point.name for point in entry_points(group=self.group))]))

    def __contains__(self, name: str) -> bool:
        # The package's own first: looking through the entry points of all packages takes a tenth of a second.
        return name in self.builtin or name in self.names

    def check(self, name: str) -> None:
        """Refuse an unknown name. Raises ValueError that lists the known ones."""
        if name not in self:
            raise ValueError(f"there is no {self.kind} {name!r}; there are {', '.join(self.names)}")

    def __getitem__(self, name: str) -> T:
        """The choice of a name. Raises ValueError where it is unknown or its package cannot be imported."""
        self.check(name)
        if name in self.builtin:
            return self.builtin[name]
        (point, *_) = entry_points(group=self.group, name=name)
        try:
            choice: T = point.load()
        except (ImportError, AttributeError) as error:
            raise ValueError(f"the {self.kind} {name!r} of {point.value} cannot be loaded: {error}") from None
        return choice
