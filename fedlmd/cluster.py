"""A whole cluster on this machine: a server and its workers as local processes, each a ``fedlmd serve``."""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

from fedlmd.client import NodeClient, NodeError
from fedlmd.federation.processes import Child

__all__ = ["Cluster", "ClusterError", "NodePlace", "free_port"]

START_SECONDS = 120.0


class ClusterError(RuntimeError):
    """A node did not start; the text says which, and how its log ends."""


@dataclass(frozen=True)
class NodePlace:
    """Where one node of a local cluster is.

    Args:
        name: "server" or the worker's name.
        port: of its REST service.
        flower_port: the server's for the workers, or a worker's own.
        worker: share of the data, from 0; None for the server.
    """

    name: str
    port: int
    flower_port: int
    worker: int | None = None

    @property
    def url(self) -> str:
        """Address of the REST service."""
        return f"http://127.0.0.1:{self.port}"


@final
class Cluster:
    """Starts and ends the nodes of a cluster.

    Args:
        home: folder that gets one folder for each node.
        settings: TOML file that every node reads.
        ports: of the REST services, the server's first, then one for each worker.
        cold: let every message load models and data anew instead of asking a warm trainer; only to measure that.
    """

    def __init__(self, home: Path, settings: Path, ports: tuple[int, ...], *, cold: bool = False) -> None:
        self.home, self.settings, self.cold = home.absolute(), settings.absolute(), cold
        self.server = NodePlace("server", ports[0], free_port())
        self.workers = [
            NodePlace(f"client{worker + 1}", port, free_port(), worker) for worker, port in enumerate(ports[1:])
        ]
        self.children: dict[str, Child] = {}

    @property
    def nodes(self) -> list[NodePlace]:
        """The server and the workers."""
        return [self.server, *self.workers]

    def start(self) -> None:
        """Start all nodes and return when all answer.

        Raises:
            ClusterError: when a port is taken or a node does not answer in time.
        """
        for node in self.nodes:
            if not is_free(node.port):
                raise ClusterError(f"port {node.port} is taken; stop what listens there, or choose other ports")
        for node in self.nodes:
            home = self.home / node.name
            (home / "logs").mkdir(parents=True, exist_ok=True)
            child = Child(self.command(node), self.environment, home / "logs" / "node.log", home)
            self.children[node.name] = child
            child.start()
        deadline = time.monotonic() + START_SECONDS
        for node in self.nodes:
            self.wait_for(node, deadline)

    def wait_for(self, node: NodePlace, deadline: float) -> None:
        """Wait until a node answers."""
        child = self.children[node.name]
        while True:
            try:
                NodeClient(node.url, timeout=2.0).health()
            except NodeError:
                if time.monotonic() > deadline or child.starts > 2:
                    raise ClusterError(f"{node.name} did not start; its log ends with: {child.last_words()}") from None
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """End all nodes, the workers first."""
        for node in reversed(self.nodes):
            if node.name in self.children:
                self.children.pop(node.name).stop()

    def command(self, node: NodePlace) -> list[str]:
        """How a node is started."""
        role = "server" if node.worker is None else "worker"
        options = {
            "role": role,
            "name": node.name,
            "home": self.home / node.name,
            "settings": self.settings,
            "port": node.port,
            "superlink": f"127.0.0.1:{self.server.flower_port}",
            "worker": node.worker or 0,
            "flower-port": node.flower_port,
            "threads": self.threads,
        }
        told = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return [sys.executable, "-m", "fedlmd.cli", "serve", *told]

    @property
    def threads(self) -> int:
        """Cores of each node. More threads than cores would wait for each other most of the time."""
        return max(1, (os.cpu_count() or 1) // len(self.workers))

    @property
    def environment(self) -> dict[str, str]:
        """What the nodes' processes inherit."""
        # Threads that wait must not burn the cores of their neighbours; fewer arenas keep freed memory from piling up.
        lean = {"OMP_WAIT_POLICY": "PASSIVE", "MALLOC_ARENA_MAX": "2"}
        return {**os.environ, **lean, **({"FEDLMD_COLD": "1"} if self.cold else {})}


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a port can be listened at."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
