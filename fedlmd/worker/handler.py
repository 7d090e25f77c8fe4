"""The handler of messages of a process's worker, which an environment variable describes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedlmd.progress import Work
from fedlmd.release import Weights
from fedlmd.settings import SettingsError, from_mapping
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker

STORE = "encoded.sqlite"
"""The file of encoded images' maps, beside the folder of the client state."""

WORKER = "FEDLMD_WORKER_CONFIG"
"""The environment variable that describes a process's worker, as JSON."""


def build_handler() -> Callable[[str, Mapping[str, Any], Weights], Work]:
    """``Worker.handle`` of the worker that the environment variable describes.

    Raises:
        SettingsError: when the variable is missing or wrong.
    """
    try:
        described = json.loads(os.environ[WORKER])
        data = from_mapping(described["settings"]).data
        root, releases, state = (Path(described[name]) for name in ("root", "releases", "state"))
        store = state.parent / STORE
        config = WorkerConfig(described["name"], data, described["worker"], root, releases, state, store)
    except (KeyError, ValueError) as error:
        raise SettingsError(f"the variable {WORKER} does not describe a worker: {error!r}") from None
    return Worker(config).handle
