"""The faults, each with what is done to a run and what must come of it."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fedlmd.bench.scene import MANNERS, Scene, Skipped
from fedlmd.federation.engine import ServerEngine

__all__ = ["FAULTS", "SITES", "Fault"]

SITES = tuple(MANNERS)
BAD = SITES[2]
ALL, OTHERS = SITES, SITES[:2]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: for the command line.
        title: what is done, in words.
        outcome: what comes of it, in words; checked.
        script: does it, and waits for the run's end.
        rounds: the workers whose updates each round averages then.
        by_hand: whether somebody has to resume the run.
        workers: how many there are at first.
    """

    name: str
    title: str
    outcome: str
    script: Callable[[Scene], None]
    rounds: Sequence[Sequence[str]] = (ALL, ALL, ALL)
    by_hand: bool = False
    workers: int = 3


def undisturbed(scene: Scene) -> None:
    """Nothing happens."""
    scene.begin()
    scene.end()


def at_round_2(scene: Scene) -> None:
    """Lead a run to where all workers are in its second round."""
    scene.begin(gates=[2])
    scene.reach(2)
    scene.now()


def worker_killed(scene: Scene) -> None:
    """A worker disappears and stays away."""
    at_round_2(scene)
    scene.stage.kill(BAD)
    scene.stage.open(2)
    scene.end()
    refused = [(event["worker"], event["round"]) for event in scene.events if event["event"] == "refused"]
    scene.expect(refused == [(BAD, 2)], f"the diary says that {refused} were refused")


def worker_back(scene: Scene) -> None:
    """A worker disappears, and is started again while the round is still waiting for it."""
    scene.begin(gates=[2, 3])
    scene.reach(2)
    scene.now()
    scene.stage.kill(BAD)
    scene.stage.open(2)
    scene.stage.add(BAD)
    scene.seen("round", round=2)
    scene.stage.open(3)
    scene.end()


def worker_late(scene: Scene) -> None:
    """A third worker comes in the first of the rounds of two."""
    scene.begin(gates=[1])
    scene.reach(1)
    scene.now()
    log = scene.stage.home / BAD / "logs" / "supernode.log"
    scene.stage.add(BAD)
    scene.wait(lambda: log.exists() and "SuperNode ID" in log.read_text(), "the third worker")
    scene.stage.open(1)
    scene.end()


def trainer_gets(number: signal.Signals) -> Callable[[Scene], None]:
    """Only the trainer of a worker gets a signal in the middle of a round."""

    def script(scene: Scene) -> None:
        at_round_2(scene)
        trainer = scene.stage.workers[BAD].trainer
        assert trainer.pid is not None  # noqa: S101 - it works on a round
        os.kill(trainer.pid, number)
        scene.stage.open(2)
        scene.end()

    return script


def worker_asleep(scene: Scene) -> None:
    """All of a worker's processes stand still, as on a machine that sleeps or lost its network, and go on later."""
    scene.begin(gates=[2], min_workers=3)
    scene.reach(2)
    scene.now()
    worker = scene.stage.workers[BAD]
    worker.trainer.patience = math.inf  # on a machine that sleeps, who keeps it running sleeps too
    groups = worker.pids
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    scene.stage.open(2)
    scene.seen("waiting", round=3, connected=2)
    for group in groups:
        os.killpg(group, signal.SIGCONT)
    scene.end()


def spoilt(fault: str, words: str) -> Callable[[Scene], None]:
    """A worker spoils all its updates in one way, which the guard refuses in these words."""

    def script(scene: Scene) -> None:
        # The others take longer, so that the bad update comes first.
        manners = {name: replace(manner, seconds=1.0) for name, manner in MANNERS.items()}
        manners[BAD] = replace(MANNERS[BAD], fault=fault, seconds=0.0)
        scene.begin(manners=manners)
        scene.end()
        refused = [event for event in scene.events if event["event"] == "refused"]
        scene.happened_at(refused[0]["time"] if refused else None)
        scene.expect([event["round"] for event in refused] == [1, 2, 3], "it was not refused in each round")
        scene.expect(all(words in event["reason"] for event in refused), f"the reason does not say {words!r}")

    return script


def worker_slow(scene: Scene) -> None:
    """A worker takes ten times as long as the others, and longer than a round waits."""
    manners = {name: replace(manner, seconds=3.0) for name, manner in MANNERS.items()}
    scene.begin(manners={**manners, BAD: replace(MANNERS[BAD], seconds=30.0)}, round_timeout=20.0)
    scene.happened_at(scene.seen("started")["time"])
    scene.end()


def run_killed(scene: Scene) -> None:
    """The run's process at the server, Flower's ServerApp, is killed."""
    at_round_2(scene)
    scene.kill_run()
    scene.stage.open(2)
    scene.resume()
    scene.end()


def link_killed(scene: Scene) -> None:
    """Flower's server is killed; what keeps it running starts it again."""
    at_round_2(scene)
    pid = scene.stage.engine.pids["superlink"]
    assert pid is not None  # noqa: S101 - it serves the run
    os.kill(pid, signal.SIGKILL)
    scene.stage.open(2)
    scene.end()


def server_killed(scene: Scene) -> None:
    """All processes of the server are killed, and the node is started anew."""
    at_round_2(scene)
    old = scene.stage.engine
    for pid in old.pids.values():
        assert pid is not None  # noqa: S101 - it serves the run
        os.killpg(pid, signal.SIGKILL)
    old.stop()
    scene.stage.open(2)
    scene.stage.engine = ServerEngine(old.home, old.host, old.port)
    scene.stage.engine.start()
    scene.runs = scene.stage.runs()
    scene.runs.resume_watching()
    scene.resume()
    scene.end()


def disk_full(scene: Scene) -> None:
    """The disk with the run's folder is full when the second round's weights are to be written."""
    scene.prepare()
    with small_disk(scene.folder):
        scene.stage.close(2)
        scene.hand_over()
        scene.reach(2)
        filling = scene.folder / "filling"
        # Ends with its own complaint that nothing is left.
        subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4096"], stderr=subprocess.DEVNULL, check=False)  # noqa: S607
        scene.now()
        scene.stage.open(2)
        reason = scene.seen("failed")["reason"]
        scene.expect("round-002.safetensors could not be written" in reason, f"the reason is {reason}")
        filling.unlink()
        scene.resume()
        scene.end()
        # What is checked lies on that disk.
        aside = shutil.copytree(scene.folder, scene.stage.home / "aside")
    shutil.copytree(aside, scene.folder, dirs_exist_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 256 kB at a folder, with what the folder holds. Raises Skipped where that is not allowed."""
    aside = shutil.copytree(folder, folder.parent / "aside")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        raise Skipped("mounting a small disk needs the rights of root")
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        shutil.rmtree(aside)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def calibration_killed(scene: Scene) -> None:
    """The run's process is killed when all rounds are done and the workers calibrate."""
    scene.begin(gates=["moments"])
    scene.seen("calibrating", step="sums")
    scene.wait(scene.stage.at_work, "all workers in the calibration")
    scene.now()
    scene.kill_run()
    scene.stage.open("moments")
    scene.resume()
    scene.end()


def workers_gone(scene: Scene) -> None:
    """All workers disappear; the run gives up, they come back, and somebody resumes it."""
    scene.begin(gates=[2], wait_seconds=5.0)
    scene.reach(2)
    scene.now()
    for name in SITES:
        scene.stage.kill(name)
    scene.stage.open(2)
    reason = scene.seen("failed")["reason"]
    scene.expect("workers and 0 were connected" in reason, f"the reason is {reason}")
    for name in SITES:
        scene.stage.add(name)
    scene.resume()
    scene.end()


LEFT_OUT = (OTHERS, OTHERS, OTHERS)
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
        trainer_gets(signal.SIGKILL),
        (ALL, OTHERS, ALL),
    ),
    Fault(
        "trainer-frozen",
        "a worker's trainer stands still in round 2 and never answers again",
        MISSED,
        trainer_gets(signal.SIGSTOP),
        (ALL, OTHERS, ALL),
    ),
    Fault(
        "worker-asleep",
        "a worker's machine sleeps in round 2, and wakes up when round 3 waits for it",
        MISSED,
        worker_asleep,
        (ALL, OTHERS, ALL),
    ),
    Fault("nan", "a worker sends NaN", REFUSED, spoilt("nan", "not finite"), LEFT_OUT),
    Fault("inf", "a worker sends infinity", REFUSED, spoilt("inf", "not finite"), LEFT_OUT),
    Fault("shapes", "a worker sends arrays of other shapes", REFUSED, spoilt("shapes", "has shape"), LEFT_OUT),
    Fault("names", "a worker sends arrays under other names", REFUSED, spoilt("names", "is missing"), LEFT_OUT),
    Fault(
        "scale",
        "a worker sends its update 100 times too large, first of all",
        REFUSED,
        spoilt("scale", "times as much as updates do"),
        LEFT_OUT,
    ),
    Fault(
        "worker-slow",
        "a worker takes 10 times as long as the others, beyond round_timeout",
        "each round averages the others",
        worker_slow,
        LEFT_OUT,
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
