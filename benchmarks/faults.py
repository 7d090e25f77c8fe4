"""What a run survives: every fault is injected into real processes, and the run's outcome is checked by value."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fault_cluster import ProcessesLeft, fault_cluster
from benchmarks.fault_harness import WORKERS, FaultRun, Row, Skipped
from benchmarks.fault_list import FAULTS, Fault
from benchmarks.record import record
from benchmarks.storage import Steps, load_json, save_json
from fedlmd.federation.flower.processes import EngineError
from fedlmd.progress import Progress
from fedlmd.service.contract import Busy, Refused, Unavailable

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


def measure(config: FaultsBench, output: Path) -> Steps:
    """Inject one fault after the other, each into a cluster of its own; returns the result as JSON has it.

    Args:
        config: what to do.
        output: folder for the outcome of each fault, which is used when it is there, and for the event log and the logs
            of each run that did not survive.
    """
    output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for done, fault in enumerate(config.chosen):
        yield Progress(fault.name, done, len(config.chosen))
        file = output / f"{fault.name}.json"
        if not file.exists():
            save_json(file, inject(fault, config.limit, output / fault.name).to_json())
        rows.append(load_json(file))
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
    return record(figures, "python -m benchmarks faults", faults=rows, limit=config.limit)


def inject(fault: Fault, limit: float, logs: Path) -> Row:
    """Inject one fault; returns the outcome.

    Args:
        fault: the fault.
        limit: seconds that each step may take.
        logs: folder for the logs when the run does not survive.
    """
    shutil.rmtree(logs, ignore_errors=True)
    row = Row(fault.name, fault.title)
    try:
        with fault_cluster(WORKERS[: fault.workers]) as cluster:
            run = FaultRun(cluster, limit)
            try:
                fault.script(run)
                row = run.row(fault.name, fault.title, fault.outcome, fault.rounds, by_hand=fault.by_hand)
            except Skipped as error:
                row = Row(fault.name, fault.title, skipped=str(error))
            except TimeoutError as error:
                row = Row(fault.name, fault.title, hang=True, problems=[str(error)])
            except (EngineError, Busy, Refused, Unavailable) as error:
                row = Row(fault.name, fault.title, problems=[str(error)])
            if not row.survived and row.skipped is None:
                keep_logs(cluster.home, logs)
    except ProcessesLeft as error:
        row.problems.append(str(error))
    return row


def keep_logs(home: Path, folder: Path) -> None:
    """Copy logs and event logs."""
    for pattern in ("*/logs/*.log", "server/runs/*/*.json*"):
        for file in home.glob(pattern):
            target = folder / file.relative_to(home)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
