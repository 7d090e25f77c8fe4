"""A task on photographs in a federation of two sites, in this process."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.federated import bytes_up, release_of
from fedlmd.data import PartitionConfig
from fedlmd.progress import Progress
from fedlmd.settings import Settings
from fedlmd.worker.alone import resolved
from fedlmd.worker.images import WorkerConfig

ROUNDS = 4


def federated(
    settings: Settings, worker: WorkerConfig, partition: PartitionConfig, folder: Path
) -> Generator[Progress, None, tuple[Path, dict[str, Any]]]:
    """The folder of a release that two sites trained together, and how many bytes a site sends in a round.

    Args:
        settings: of the task.
        worker: of one site that has all images.
        partition: what each site has of them.
        folder: of the run.
    """
    whole = resolved(worker, settings)
    data = replace(worker.data, partition=partition)
    federation = replace(whole.federation, rounds=ROUNDS)
    release = yield from release_of(replace(whole, data=data, federation=federation), folder, folder)
    return release, {"bytes_per_round": round(bytes_up(folder) / ROUNDS)}
