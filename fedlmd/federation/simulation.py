"""``python -m fedlmd.federation.simulation RUN_DIR WORKERS ACTORS DATA``: a whole run in Flower's simulation engine.

The server's side is that of a deployment, word for word: the same conductor, strategies and pulling of replies. Ray's
actors are the workers, so many at a time.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from fedlmd.federation.grid import PollingGrid
from fedlmd.federation.server_app import carry_out
from fedlmd.federation.simulated import client_app

__all__ = ["EXTRA", "WORKERS", "has_ray", "main", "server_app"]

EXTRA = "fedlmd[simulation]"

WORKERS = "workers"
"""The folder in the run's that workers keep in what they need from round to round."""

# Bytes of Ray's object store, through which messages go one at a time.
STORE = 512 * 2**20


def has_ray() -> bool:
    """Whether the engine that simulates is installed."""
    found = importlib.util.find_spec("ray")
    # A folder of that name in the working directory is none.
    return found is not None and found.origin is not None


def server_app(run_dir: Path) -> ServerApp:
    """The server's app of a simulated run. Simulated workers keep no release."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's form
        carry_out(run_dir, PollingGrid(grid), installs=False)

    return app


def main(arguments: list[str]) -> None:
    """Carry out the run in the folder ``arguments[0]`` with so many workers, so many of them at a time."""
    from flwr.simulation import run_simulation  # noqa: PLC0415 - only where Ray is there

    run_dir, workers, actors, data = arguments
    threading.Thread(target=end_with, args=(os.getppid(),), name="leash", daemon=True).start()
    run_simulation(
        server_app(Path(run_dir)),
        client_app(data, Path(run_dir) / WORKERS),
        num_supernodes=int(workers),
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": int(actors), "object_store_memory": STORE, "include_dashboard": False},
        },
    )


def end_with(parent: int) -> None:
    """End this process when its parent has: Ray keeps the signal by which the leash says so to itself."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
