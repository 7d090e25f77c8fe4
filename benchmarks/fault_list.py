"""The faults, each with what is done to a run and what must happen."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.fault_harness import WORKERS, FaultRun
from benchmarks.fault_scripts import (
    calibration_killed,
    disk_full,
    faulty_update,
    link_killed,
    run_killed,
    server_killed,
    trainer_signalled,
    undisturbed,
    worker_asleep,
    worker_back,
    worker_killed,
    worker_late,
    worker_slow,
    workers_gone,
)

ALL, OTHERS = WORKERS, WORKERS[:2]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: for the command line.
        title: what is done, in words.
        outcome: what must happen, in words; checked.
        script: injects it, and waits for the run's end.
        rounds: the workers whose updates each round averages then.
        by_hand: whether somebody has to resume the run.
        workers: how many there are at first.
    """

    name: str
    title: str
    outcome: str
    script: Callable[[FaultRun], None]
    rounds: Sequence[Sequence[str]] = (ALL, ALL, ALL)
    by_hand: bool = False
    workers: int = 3


WITHOUT_FAULTY = (OTHERS, OTHERS, OTHERS)
REFUSED, AGAIN = "refused in each round", "the run fails, and goes on with round 2"
MISSED = "round 2 averages the others, round 3 all"
FAULTS = (
    Fault("none", "none", "the run ends", undisturbed),
    Fault(
        "worker-killed",
        "a worker is killed in round 2 and stays away",
        "rounds 2 and 3 average the others",
        worker_killed,
        (ALL, OTHERS, OTHERS),
    ),
    Fault("worker-back", "a worker is killed in round 2 and started again", MISSED, worker_back, (ALL, OTHERS, ALL)),
    Fault(
        "worker-late",
        "a worker joins in round 1",
        "it takes part from round 2",
        worker_late,
        (OTHERS, ALL, ALL),
        workers=2,
    ),
    Fault(
        "trainer-killed",
        "a worker's trainer is killed in round 2, not its SuperNode",
        MISSED,
        trainer_signalled(signal.SIGKILL),
        (ALL, OTHERS, ALL),
    ),
    Fault(
        "trainer-frozen",
        "a worker's trainer hangs in round 2 and never replies again",
        MISSED,
        trainer_signalled(signal.SIGSTOP),
        (ALL, OTHERS, ALL),
    ),
    Fault(
        "worker-asleep",
        "a worker's machine sleeps in round 2, and wakes up when round 3 waits for it",
        MISSED,
        worker_asleep,
        (ALL, OTHERS, ALL),
    ),
    Fault("nan", "a worker sends NaN", REFUSED, faulty_update("nan", "not finite"), WITHOUT_FAULTY),
    Fault("inf", "a worker sends infinity", REFUSED, faulty_update("inf", "not finite"), WITHOUT_FAULTY),
    Fault(
        "shapes", "a worker sends arrays of other shapes", REFUSED, faulty_update("shapes", "has shape"), WITHOUT_FAULTY
    ),
    Fault(
        "names",
        "a worker sends arrays under other names",
        REFUSED,
        faulty_update("names", "is missing"),
        WITHOUT_FAULTY,
    ),
    Fault(
        "scale",
        "a worker sends its update 100 times too large, first of all",
        REFUSED,
        faulty_update("scale", "times as much as updates do"),
        WITHOUT_FAULTY,
    ),
    Fault(
        "worker-slow",
        "a worker takes 10 times as long as the others, beyond round_timeout",
        "each round averages the others",
        worker_slow,
        WITHOUT_FAULTY,
    ),
    Fault("run-killed", "the ServerApp's process is killed in round 2", AGAIN, run_killed, by_hand=True),
    Fault("link-killed", "the SuperLink is killed in round 2", "it is started again, and the run goes on", link_killed),
    Fault("server-killed", "all of the server's processes are killed in round 2", AGAIN, server_killed, by_hand=True),
    Fault("disk-full", "the disk is full when round 2 is written", AGAIN, disk_full, by_hand=True),
    Fault(
        "calibration-killed",
        "the ServerApp's process is killed after the last round",
        "the run fails, and goes on with the calibration",
        calibration_killed,
        by_hand=True,
    ),
    Fault("workers-gone", "all workers are killed in round 2", AGAIN, workers_gone, by_hand=True),
)
"""All faults; the first is none."""
