"""What a run survives: every fault is injected into real processes, and what comes of the run is checked by value."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedlmd.bench.record import record
from fedlmd.bench.scene import Row, Scene, Skipped
from fedlmd.bench.scripts import FAULTS, SITES, Fault
from fedlmd.bench.stage import StageError, stage
from fedlmd.federation.engine import EngineError
from fedlmd.progress import Progress
from fedlmd.service import Busy, Refused, Unavailable

__all__ = ["FaultsBench", "measure"]

UNDISTURBED = "none"


@dataclass(frozen=True)
class FaultsBench:
    """What to do.

    Args:
        faults: names of those to inject; empty for all.
        limit: seconds after which a fault counts as a hang; on a machine that is busy, more.
    """

    faults: Sequence[str] = ()
    limit: float = 400.0

    def __post_init__(self) -> None:
        """Refuse names that no fault has."""
        known = [fault.name for fault in FAULTS]
        if unknown := sorted(set(self.faults) - set(known)):
            raise ValueError(f"there is no fault {unknown[0]!r}; there are {', '.join(known)}")

    @property
    def chosen(self) -> list[Fault]:
        """The faults to inject, and before them a run without one."""
        wanted = {UNDISTURBED, *self.faults}
        return [fault for fault in FAULTS if not self.faults or fault.name in wanted]


def measure(config: FaultsBench, output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Inject one fault after the other, each into a cluster of its own; the last item is the result as JSON has it.

    Args:
        config: what to do.
        output: folder that gets what came of each fault, which is used when it is there, and the diary and the logs of
            each run that was not survived.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for done, fault in enumerate(config.chosen):
        yield Progress(fault.name, done, len(config.chosen))
        file = output / f"{fault.name}.json"
        if not file.exists():
            row = play(fault, config.limit, output / fault.name)
            file.write_text(json.dumps(row.to_json(), indent=2) + "\n", encoding="utf-8")
        rows.append(json.loads(file.read_text(encoding="utf-8")))
    injected = [row for row in rows if row["skipped"] is None and row["fault"] != UNDISTURBED]
    figures = {
        "faults_injected": len(injected),
        "faults_not_survived": sum(not row["survived"] for row in injected),
        "hangs": sum(row["hang"] for row in injected),
        "faults_resumed_by_hand": sum(row["by_hand"] for row in injected),
        "most_rounds_lost": max((row["rounds_lost"] for row in injected), default=0),
        "usual_round_seconds": rows[0]["round_seconds"],
        "median_seconds_to_go_on": statistics.median([row["seconds"] for row in injected] or [0.0]),
    }
    yield record(figures, "fedlmd bench faults", faults=rows, limit=config.limit)


def play(fault: Fault, limit: float, kept: Path) -> Row:
    """Inject one fault and see what happens.

    Args:
        fault: what to do.
        limit: seconds that each step may take.
        kept: folder that gets what was written when the fault is not survived.
    """
    shutil.rmtree(kept, ignore_errors=True)
    row = Row(fault.name, fault.title)
    try:
        with stage(SITES[: fault.workers]) as running:
            scene = Scene(running, limit)
            try:
                fault.script(scene)
                row = scene.row(fault.name, fault.title, fault.outcome, fault.rounds, by_hand=fault.by_hand)
            except Skipped as error:
                row = Row(fault.name, fault.title, skipped=str(error))
            except TimeoutError as error:
                row = Row(fault.name, fault.title, hang=True, problems=[str(error)])
            except (EngineError, Busy, Refused, Unavailable) as error:
                row = Row(fault.name, fault.title, problems=[str(error)])
            if not row.survived and row.skipped is None:
                keep(running.home, kept)
    except StageError as error:
        row.problems.append(str(error))
    return row


def keep(home: Path, folder: Path) -> None:
    """Keep logs and diaries."""
    for pattern in ("*/logs/*.log", "server/runs/*/*.json*"):
        for file in home.glob(pattern):
            target = folder / file.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
