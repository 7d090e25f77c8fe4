"""What every measurement says of itself beside its figures."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

__all__ = ["record"]


def record(figures: dict[str, Any], command: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A result as its JSON file has it.

    Args:
        figures: name to value.
        command: what made them.
        **more: whatever else belongs to the result.
    """
    return {
        "figures": figures,
        **more,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("fedlmd", "flwr", "torch")},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
