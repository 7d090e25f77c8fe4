"""What a node is told at its start."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fedlmd.service import Role
from fedlmd.settings import Settings

__all__ = ["NodeConfig"]


@dataclass(frozen=True)
class NodeConfig:
    """The place of a node in the cluster.

    Args:
        name: shown in logs, metrics and releases.
        role: "server" or "worker".
        home: the node's folder; it gets ``data/``, ``releases/``, ``memory/``, ``runs/``, ``flower/``, ``logs/`` and
            ``drift.json``.
        settings: labels, data, models, training; a run's own settings are put over the server's.
        worker: which share of a divided source is this node's, from 0.
        host: address at which the REST service listens.
        port: its port.
        superlink: "host:port" of Flower's server; at the server itself where it listens.
        flower_port: at a worker, port of Flower's own processes, reached from this machine only.
        threads: processor cores that the trainer, and likewise the answering, may use.
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
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)

    @property
    def releases(self) -> Path:
        """Where the node keeps its releases."""
        return self.home / "releases"

    @property
    def memory(self) -> Path:
        """Where a worker keeps what it needs from round to round."""
        return self.home / "memory"

    @property
    def data(self) -> Path:
        """The node's data root: paths in requests stay inside it."""
        return self.home / "data"

    @property
    def runs(self) -> Path:
        """Where the server keeps its runs."""
        return self.home / "runs"

    @property
    def logs(self) -> Path:
        """Where the node's processes write their logs."""
        return self.home / "logs"
