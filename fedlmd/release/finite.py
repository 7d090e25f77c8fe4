"""What JSON can hold: it has neither NaN nor infinity, and most readers refuse a file with them."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The value with None for each number that is not finite, in dicts, lists and tuples too."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
