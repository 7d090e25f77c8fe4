"""Configuration of a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fedlmd.node.cores import available_cores
from fedlmd.service.schema import Role
from fedlmd.settings import Settings


@dataclass(frozen=True)
class NodeConfig:
    """Configuration of one node of a cluster.

    Args:
        name: shown in logs, metrics and releases.
        role: "server" or "worker".
        home: the node's folder; it gets ``releases/``, ``state/``, ``runs/``, ``flower/``, ``logs/`` and
            ``drift.json``.
        settings: labels, data, models, training; a run's own settings override the server's.
        worker: index of this node's share of a divided source, from 0.
        host: address at which the REST service listens.
        port: its port.
        superlink: "host:port" of Flower's server, see ``Address``; at the server itself where it listens.
        flower_port: at a worker, port of Flower's own processes, reached from this machine only.
        threads: processor cores that the trainer may use, and likewise the REST service for predictions.
        data: the node's data root: sources in settings and paths in requests lie inside it; ``home/data`` by default.
    """

    name: str
    role: Role
    home: Path
    settings: Settings = field(default_factory=Settings)
    worker: int = 0
    host: str = "127.0.0.1"
    port: int = 8000
    superlink: str = "127.0.0.1:9092"
    flower_port: int = 9094
    threads: int = field(default_factory=available_cores)
    data: Path = Path()

    def __post_init__(self) -> None:
        if self.data == Path():
            object.__setattr__(self, "data", self.home / "data")

    @property
    def releases(self) -> Path:
        """Folder of the node's releases."""
        return self.home / "releases"

    @property
    def runs(self) -> Path:
        """Folder of the server's runs."""
        return self.home / "runs"

    @property
    def logs(self) -> Path:
        """Folder of the logs of the node's processes."""
        return self.home / "logs"
