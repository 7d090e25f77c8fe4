"""The record of a measurement: its figures, and how they were made."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from fedlmd.node.cores import available_cores


def record(figures: dict[str, Any], command: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A result as its JSON file has it.

    Args:
        figures: name to value.
        command: that measures them.
        **more: other parts of the result.
    """
    return {
        "figures": figures,
        **more,
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: version(name) for name in ("fedlmd", "flwr", "torch")},
        "machine": f"{platform.machine()}, {available_cores()} cores, Python {platform.python_version()}",
    }
