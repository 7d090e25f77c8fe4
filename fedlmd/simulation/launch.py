"""A federation of many workers on one machine: Flower's simulation engine, started and followed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedlmd.data import DataError, survey
from fedlmd.federation.events import EventLog, follow_events
from fedlmd.federation.flower.processes import end_group, flower_environment
from fedlmd.federation.plan import Plan, write_plan
from fedlmd.models import build
from fedlmd.settings import Settings, SettingsError, plan_of, to_mapping
from fedlmd.simulation.program import EXTRA, WORKERS, has_ray


class SimulationError(RuntimeError):
    """The simulation cannot start, or its process died; the text says why."""


def simulate(settings: Settings, workers: int, output: Path, *, actors: int) -> Iterator[dict[str, Any]]:
    """Carry out a run with simulated workers; yields its events up to the one that ends it.

    Args:
        settings: of the run; ``data.partition`` divides the source among the workers.
        workers: how many.
        output: folder that gets ``runs/``, ``releases/`` and ``logs/``.
        actors: workers that work at the same time, each on one core.

    Raises:
        SimulationError: when Ray is missing, or its processes died.
        SettingsError: when the settings cannot be simulated with so many workers.
    """
    settings = divided(settings, workers)
    if not has_ray():
        raise SimulationError(f"simulated workers need Ray: pip install '{EXTRA}'")
    looked_at = survey(settings.data.source, config=settings.data)
    settings, notes = settings.resolved([looked_at.facts])
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{workers}-workers"
    folder = output.absolute() / "runs" / run
    write_plan(
        folder,
        plan_for(run, settings, workers, output.absolute() / "releases", actors),
        build(settings.networks).weights(),
    )
    events = EventLog(folder)
    events.append("submitted", run=run, rounds=settings.federation.rounds, workers=workers)
    if said := [*looked_at.notes, *notes]:
        events.append("images", notes=said)
    log = output.absolute() / "logs" / f"{run}.log"
    log.parent.mkdir(exist_ok=True)
    process = launched(folder, workers, actors, json.dumps(to_mapping(settings)["data"]), log)
    try:
        yield from followed(process, folder, log)
        # Ray takes some seconds to end its processes.
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30.0)
    finally:
        end_group(process.pid, grace=8.0)
        process.wait()
        shutil.rmtree(folder / WORKERS, ignore_errors=True)


def divided(settings: Settings, workers: int) -> Settings:
    """The settings with their source divided among so many workers.

    Raises:
        SettingsError: when the partition names other workers.
    """
    part = settings.data.partition
    if part.kind == "labels" and len(part.lists) != workers:
        raise SettingsError(
            f'data.partition has lists for {len(part.lists)} workers, not {workers}; choose kind "iid" or "dirichlet"'
        )
    try:
        return replace(settings, data=replace(settings.data, partition=replace(part, workers=workers)))
    except DataError as error:
        raise SettingsError(str(error)) from None


def plan_for(run: str, settings: Settings, workers: int, releases: Path, actors: int) -> Plan:
    """The plan of a simulated run: a round starts with all workers, and its timeout grows where they take turns."""
    federation, turns = settings.federation, -(-workers // actors)
    federation = replace(
        federation,
        min_workers=workers,
        min_replies=min(federation.min_replies, workers),
        round_timeout=federation.round_timeout * turns,
    )
    return plan_of(run, replace(settings, federation=federation), releases)


def launched(folder: Path, workers: int, actors: int, data: str, log: Path) -> subprocess.Popen[bytes]:
    """The simulation's process, which ends when this one does."""
    program = [sys.executable, "-m", "fedlmd.simulation.program", str(folder), str(workers), str(actors), data]
    home = folder.parents[1]
    # Ray sends no usage statistics.
    environment = {**flower_environment(home, "127.0.0.1"), "RAY_USAGE_STATS_ENABLED": "0"}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "fedlmd.federation.flower.parent_guard", str(os.getpid()), *program],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def followed(process: subprocess.Popen[bytes], folder: Path, log: Path) -> Iterator[dict[str, Any]]:
    """The run's events. Raises SimulationError when the process died without a final event."""
    events = EventLog(folder)
    for event in follow_events(events.path, silence=1.0):
        if event is not None:
            yield event
        elif process.poll() is not None and events.final() is None:
            text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise SimulationError(f"the simulation died; {log} ends with: {text[-1] if text else 'nothing'}")
