"""How each fault is injected: scripts that start a run, do something to it, and wait for its end."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.fault_harness import BEHAVIOURS, FAULTY, WORKERS, FaultRun, Skipped
from fedlmd.federation.flower.engine import ServerEngine


def undisturbed(run: FaultRun) -> None:
    """No fault."""
    run.start()
    run.finish()


def at_round_2(run: FaultRun) -> None:
    """Start a run and wait until all workers are in its second round."""
    run.start(gates=[2])
    run.wait_for_round(2)
    run.mark_fault()


def worker_killed(run: FaultRun) -> None:
    """A worker disappears and stays away."""
    at_round_2(run)
    run.cluster.kill(FAULTY)
    run.cluster.open_gate(2)
    run.finish()
    refused = [(event["worker"], event["round"]) for event in run.events if event["event"] == "refused"]
    run.check(refused == [(FAULTY, 2)], f"the event log has the refusals {refused}")


def worker_back(run: FaultRun) -> None:
    """A worker disappears, and is started again while the round is still waiting for it."""
    run.start(gates=[2, 3])
    run.wait_for_round(2)
    run.mark_fault()
    run.cluster.kill(FAULTY)
    run.cluster.open_gate(2)
    run.cluster.add(FAULTY)
    run.wait_for_event("round", round=2)
    run.cluster.open_gate(3)
    run.finish()


def worker_late(run: FaultRun) -> None:
    """A third worker joins during the first round of two workers."""
    run.start(gates=[1])
    run.wait_for_round(1)
    run.mark_fault()
    log = run.cluster.home / FAULTY / "logs" / "supernode.log"
    run.cluster.add(FAULTY)
    run.wait(lambda: log.exists() and "SuperNode ID" in log.read_text(), "the third worker")
    run.cluster.open_gate(1)
    run.finish()


def trainer_signalled(number: signal.Signals) -> Callable[[FaultRun], None]:
    """Only the trainer of a worker receives a signal in the middle of a round."""

    def script(run: FaultRun) -> None:
        at_round_2(run)
        trainer = run.cluster.workers[FAULTY].trainer
        assert trainer.pid is not None  # noqa: S101 - it works on a round
        os.kill(trainer.pid, number)
        run.cluster.open_gate(2)
        run.finish()

    return script


def worker_asleep(run: FaultRun) -> None:
    """All of a worker's processes hang, as on a machine that sleeps or lost its network, and continue later."""
    run.start(gates=[2], min_workers=3)
    run.wait_for_round(2)
    run.mark_fault()
    worker = run.cluster.workers[FAULTY]
    worker.trainer.patience = math.inf  # on a machine that sleeps, its supervisor sleeps too
    groups = worker.pids
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    run.cluster.open_gate(2)
    run.wait_for_event("waiting", round=3, connected=2)
    for group in groups:
        os.killpg(group, signal.SIGCONT)
    run.finish()


def faulty_update(fault: str, words: str) -> Callable[[FaultRun], None]:
    """All updates of a worker are faulty in one way, which the guard refuses in these words."""

    def script(run: FaultRun) -> None:
        # The others take longer, so that the bad update comes first.
        behaviours = {name: replace(behaviour, seconds=1.0) for name, behaviour in BEHAVIOURS.items()}
        behaviours[FAULTY] = replace(BEHAVIOURS[FAULTY], fault=fault, seconds=0.0)
        run.start(behaviours=behaviours)
        run.finish()
        refused = [event for event in run.events if event["event"] == "refused"]
        if refused:
            run.mark_fault(refused[0]["time"])
        run.check([event["round"] for event in refused] == [1, 2, 3], "it was not refused in each round")
        run.check(all(words in event["reason"] for event in refused), f"the reason does not say {words!r}")

    return script


def worker_slow(run: FaultRun) -> None:
    """A worker takes ten times as long as the others, and longer than a round waits."""
    behaviours = {name: replace(behaviour, seconds=3.0) for name, behaviour in BEHAVIOURS.items()}
    run.start(behaviours={**behaviours, FAULTY: replace(BEHAVIOURS[FAULTY], seconds=30.0)}, round_timeout=20.0)
    run.mark_fault(run.wait_for_event("started")["time"])
    run.finish()


def run_killed(run: FaultRun) -> None:
    """The run's process at the server, Flower's ServerApp, is killed."""
    at_round_2(run)
    run.kill_run()
    run.cluster.open_gate(2)
    run.resume()
    run.finish()


def link_killed(run: FaultRun) -> None:
    """Flower's server is killed; its supervisor restarts it."""
    at_round_2(run)
    pid = run.cluster.engine.pids["superlink"]
    assert pid is not None  # noqa: S101 - it serves the run
    os.kill(pid, signal.SIGKILL)
    run.cluster.open_gate(2)
    run.finish()


def server_killed(run: FaultRun) -> None:
    """All processes of the server are killed, and the node is started anew."""
    at_round_2(run)
    old = run.cluster.engine
    for pid in old.pids.values():
        assert pid is not None  # noqa: S101 - it serves the run
        os.killpg(pid, signal.SIGKILL)
    old.stop()
    run.cluster.open_gate(2)
    run.cluster.engine = ServerEngine(old.home, old.host, old.port)
    run.cluster.engine.start()
    run.runs = run.cluster.runs()
    run.runs.resume_watching()
    run.resume()
    run.finish()


def disk_full(run: FaultRun) -> None:
    """The disk with the run's folder is full when the second round's weights are to be written."""
    run.plan()
    with small_disk(run.folder):
        run.cluster.close_gate(2)
        run.submit()
        run.wait_for_round(2)
        filling = run.folder / "filling"
        # Ends with an error when the disk is full.
        subprocess.run(["dd", "if=/dev/zero", f"of={filling}", "bs=4096"], stderr=subprocess.DEVNULL, check=False)  # noqa: S607
        run.mark_fault()
        run.cluster.open_gate(2)
        reason = run.wait_for_event("failed")["reason"]
        run.check("round-002.safetensors could not be written" in reason, f"the reason is {reason}")
        filling.unlink()
        run.resume()
        run.finish()
        # The files to check are on that disk.
        copy = shutil.copytree(run.folder, run.cluster.home / "copy")
    shutil.copytree(copy, run.folder, dirs_exist_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 256 kB mounted at a folder, with the folder's files. Raises Skipped where that is not allowed."""
    copy = shutil.copytree(folder, folder.parent / "copy")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        raise Skipped("mounting a small disk needs the rights of root")
    try:
        shutil.copytree(copy, folder, dirs_exist_ok=True)
        shutil.rmtree(copy)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)  # noqa: S607


def calibration_killed(run: FaultRun) -> None:
    """The run's process is killed when all rounds are done and the workers calibrate."""
    run.start(gates=["moments"])
    run.wait_for_event("calibrating", step="sums")
    run.wait(run.cluster.all_busy, "all workers in the calibration")
    run.mark_fault()
    run.kill_run()
    run.cluster.open_gate("moments")
    run.resume()
    run.finish()


def workers_gone(run: FaultRun) -> None:
    """All workers disappear; the run gives up, they come back, and somebody resumes it."""
    run.start(gates=[2], wait_seconds=5.0)
    run.wait_for_round(2)
    run.mark_fault()
    for name in WORKERS:
        run.cluster.kill(name)
    run.cluster.open_gate(2)
    reason = run.wait_for_event("failed")["reason"]
    run.check("workers and 0 were connected" in reason, f"the reason is {reason}")
    for name in WORKERS:
        run.cluster.add(name)
    run.resume()
    run.finish()
