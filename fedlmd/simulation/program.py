"""``python -m fedlmd.simulation.program RUN_DIR WORKERS ACTORS DATA``: a whole run in Flower's simulation engine.

The server's side is that of a deployment: the same ``ServerRun``, strategies and polling. Ray's actors are the workers,
``ACTORS`` at a time.
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

from fedlmd.federation.server.app import carry_out
from fedlmd.federation.server.grid import PollingGrid
from fedlmd.simulation.client_app import client_app

EXTRA = "fedlmd[simulation]"

WORKERS = "workers"
"""The subfolder of a run for the workers' client state."""

# Bytes of Ray's object store, which messages pass through one at a time.
STORE = 512 * 2**20


def has_ray() -> bool:
    """Whether the engine that simulates is installed."""
    spec = importlib.util.find_spec("ray")
    # A folder of that name in the working directory gives a spec without an origin.
    return spec is not None and spec.origin is not None


def server_app(run_dir: Path) -> ServerApp:
    """The server's app of a simulated run. Simulated workers keep no release."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # noqa: ARG001 - Flower's signature
        carry_out(run_dir, PollingGrid(grid), installs=False)

    return app


def main(arguments: list[str]) -> None:
    """Carry out the run in a folder with simulated workers; see the module's text for the arguments."""
    from flwr.simulation import run_simulation  # noqa: PLC0415 - only where Ray is there

    run_dir, workers, actors, data = arguments
    threading.Thread(target=end_with, args=(os.getppid(),), name="parent-guard", daemon=True).start()
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
    """End this process when its parent has: Ray handles the signal of the parent-death guard itself."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
