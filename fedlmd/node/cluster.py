"""A cluster on this machine: a server and its workers as local processes, each a ``fedlmd serve``."""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import final

from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import SupervisedProcess, side_by_side
from fedlmd.node.cores import available_cores
from fedlmd.service.client import NodeClient, NodeError

START_SECONDS = 120.0

# A node ends its own processes first.
STOP_SECONDS = 10.0

# A node that has died so many times does not start.
DEATHS = 2


class ClusterError(RuntimeError):
    """A node did not start; the message names it and has its log tail."""


@dataclass(frozen=True)
class NodePlace:
    """Name and ports of one node of a local cluster.

    Args:
        name: "server" or the worker's name.
        port: of its REST service.
        flower_port: of Flower's processes: at the server for the workers, at a worker for its own.
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
    """Starts and stops the nodes of a cluster.

    Args:
        home: folder that gets one folder for each node.
        settings: TOML file that every node reads.
        ports: of the REST services, the server's first, then one for each worker.
        deaths: so many times may a node die before it is said not to start.
        data: data root of the workers; None for that of their homes.
    """

    def __init__(
        self,
        home: Path,
        settings: Path,
        ports: tuple[int, ...],
        *,
        deaths: int = DEATHS,
        data: Path | None = None,
    ) -> None:
        self.home, self.settings, self.deaths, self.data = home.absolute(), settings.absolute(), deaths, data
        self.server = NodePlace("server", ports[0], free_port())
        self.workers = [
            NodePlace(f"client{worker + 1}", port, free_port(), worker) for worker, port in enumerate(ports[1:])
        ]
        self.processes: dict[str, SupervisedProcess] = {}

    @property
    def nodes(self) -> list[NodePlace]:
        """The server and the workers."""
        return [self.server, *self.workers]

    def start(self) -> None:
        """Start all nodes and return when all respond.

        Raises:
            ClusterError: when a port is taken or a node does not respond in time.
        """
        self.refuse_taken_ports()
        for node in self.nodes:
            home = self.home / node.name
            (home / "logs").mkdir(parents=True, exist_ok=True)
            process = SupervisedProcess(self.command(node), self.environment, home / "logs" / "node.log", home)
            self.processes[node.name] = process
            process.start()
        deadline = time.monotonic() + START_SECONDS
        for node in self.nodes:
            self.wait_for(node, deadline)

    def refuse_taken_ports(self) -> None:
        """Raise ClusterError when a process listens at the port of a node's REST service."""
        for node in self.nodes:
            if Address("127.0.0.1", node.port).why_taken():
                raise ClusterError(f"port {node.port} is taken; stop what listens there, or choose others with --ports")

    def wait_for(self, node: NodePlace, deadline: float) -> None:
        """Wait until a node responds."""
        process = self.processes[node.name]
        while True:
            try:
                NodeClient(node.url, timeout=2.0).health()
            except NodeError:
                if time.monotonic() > deadline or process.starts > self.deaths:
                    raise ClusterError(f"{node.name} did not start; its log ends with: {process.log_tail()}") from None
                time.sleep(0.2)
            else:
                return

    def stop(self) -> None:
        """Stop all nodes, side by side."""
        processes = [self.processes.pop(name) for name in list(self.processes)]
        side_by_side(*[partial(process.stop, STOP_SECONDS) for process in processes])

    def command(self, node: NodePlace) -> list[str]:
        """The command that starts a node."""
        options = {
            "role": "server" if node.worker is None else "worker",
            "name": node.name,
            "home": self.home / node.name,
            "settings": self.settings,
            "port": node.port,
            "superlink": f"127.0.0.1:{self.server.flower_port}",
            "worker": node.worker or 0,
            "flower-port": node.flower_port,
            "threads": self.threads,
            **({} if self.data is None or node.worker is None else {"data": self.data}),
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        return [sys.executable, "-m", "fedlmd.cli", "serve", *arguments]

    @property
    def threads(self) -> int:
        """Threads of each node: its share of the cores."""
        return max(1, available_cores() // max(1, len(self.workers)))

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the nodes' processes."""
        # Waiting threads must not use the cores that other nodes need; with fewer arenas freed memory is given back.
        return {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "MALLOC_ARENA_MAX": "2"}


def free_port() -> int:
    """A port at which no process listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
