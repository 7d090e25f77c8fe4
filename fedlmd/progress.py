"""What long work reports while it runs. The caller shows it, forwards it, or stops."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Progress:
    """A step of long work.

    Args:
        stage: what is being done, such as "classifier" or "calibration".
        done: steps done in this stage.
        total: steps of this stage in all.
        metrics: latest figures by name, such as {"loss": 0.12}.
    """

    stage: str
    done: int
    total: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The end of a worker's work: figures, and weights where the work made some."""

    metrics: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)


Work = Generator[Progress, None, Result]
"""Long work as a generator: it yields its steps and returns its result; closing it stops it."""


def drain(work: Generator[S, None, T], each: Callable[[S], object] | None = None) -> T:
    """What a generator returns.

    Args:
        work: the generator; it is closed in any case.
        each: is called with every step; what it raises ends the work.
    """
    try:
        while True:
            step = next(work)
            if each is not None:
                each(step)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        work.close()
