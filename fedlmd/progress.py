"""What long work says of itself while it runs. The caller shows it, forwards it, or stops."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Progress", "Result"]


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
    """The end of long work: figures, and weights where the work made some."""

    metrics: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
