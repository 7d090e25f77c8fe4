"""One run with an injected fault: driven to the fault and to its end, and checked by value."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors.numpy import load_file

from benchmarks.fault_cluster import INITIAL, FaultCluster, wait_for
from benchmarks.numpy_trainer import WorkerBehaviour, trained_array
from fedlmd.federation.events import EventLog
from fedlmd.release import Weights, half, list_releases, load_release

T = TypeVar("T")

ROUNDS = 3

# Steps and numbers of examples by which the weights show whose updates were averaged.
BEHAVIOURS = {f"worker-{number}": WorkerBehaviour(step=float(number), examples=number + 1) for number in range(3)}
WORKERS = tuple(BEHAVIOURS)
FAULTY = WORKERS[2]
"""The worker that most faults concern."""


class Skipped(RuntimeError):  # noqa: N818 - the name says it
    """A fault that cannot be injected here; the text says why."""


@dataclass
class Row:
    """The outcome of one fault.

    Args:
        fault: its name.
        title: what was done, in words.
        outcome: what happened, in words.
        seconds: from the fault to the next round, or step of the calibration, that counted.
        rounds_lost: rounds that some worker trained more than once, and rounds that left the weights as they were.
        by_hand: whether somebody had to resume the run.
        round_seconds: median of the run's rounds.
        said: refusals, failures and resumptions in the event log.
        problems: how the run differs from one that survived.
        hang: whether something took longer than its limit.
        skipped: why the fault was not injected, or None.
    """

    fault: str
    title: str
    outcome: str = ""
    seconds: float = 0.0
    rounds_lost: int = 0
    by_hand: bool = False
    round_seconds: float = 0.0
    said: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    hang: bool = False
    skipped: str | None = None

    @property
    def survived(self) -> bool:
        """Whether the run came to its end with the right weights."""
        return self.skipped is None and not self.problems

    def to_json(self) -> dict[str, Any]:
        """The row as JSON has it."""
        return {**asdict(self), "survived": self.survived}


class FaultRun:
    """One run in a fault cluster.

    Args:
        cluster: the processes.
        limit: seconds that each step may take.
    """

    def __init__(self, cluster: FaultCluster, limit: float) -> None:
        self.cluster, self.limit = cluster, limit
        self.runs = cluster.runs()
        self.name, self.folder = "", Path()
        self.fault_time = 0.0
        self.by_hand = False
        self.failed_checks: list[str] = []

    def start(
        self,
        name: str = "faulty",
        *,
        gates: Sequence[int | str] = (),
        behaviours: Mapping[str, WorkerBehaviour] | None = None,
        **federation: Any,  # noqa: ANN401 - of FederationConfig
    ) -> None:
        """Start the run, with some of its gates closed."""
        self.plan(name, behaviours, **federation)
        for gate in gates:
            self.cluster.close_gate(gate)
        self.submit()

    def plan(
        self,
        name: str = "faulty",
        behaviours: Mapping[str, WorkerBehaviour] | None = None,
        **federation: Any,  # noqa: ANN401 - of FederationConfig
    ) -> None:
        """Plan the run."""
        usual = {"rounds": ROUNDS, "min_workers": 2, "wait_seconds": 60.0, "round_timeout": 200.0}
        folder = self.cluster.plan(name, behaviours={**BEHAVIOURS, **(behaviours or {})}, **{**usual, **federation})
        self.name, self.folder = name, folder

    def submit(self) -> None:
        """Submit the planned run to Flower and follow it as a node does."""
        self.cluster.engine.submit(self.folder)
        self.runs.watch(self.folder)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The run's event log so far."""
        return EventLog(self.folder).read()

    def wait_for_event(self, kind: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - of an event
        """The first event of a kind with these fields, waited for."""
        wanted = {"event": kind, **fields}

        def first() -> dict[str, Any] | None:
            return next((event for event in self.events if wanted.items() <= event.items()), None)

        return self.wait(first, f"the event {wanted}")

    def wait(self, condition: Callable[[], T | None], name: str) -> T:
        """Wait until a condition gives something true. Raises TimeoutError, with its name."""
        try:
            return wait_for(condition, self.limit)
        except TimeoutError as error:
            last = self.events[-1:] if self.folder.exists() else []
            raise TimeoutError(f"{name}: {error}; the event log ends with {last}") from None

    def wait_for_round(self, number: int) -> None:
        """Wait until all workers are in a round whose gate is closed."""

        def all_in_round() -> bool:
            calls = self.cluster.calls(self.name)
            in_round = all((calls.get(name) or [0])[-1] == number for name in self.cluster.workers)
            return self.cluster.all_busy() and in_round

        self.wait(all_in_round, f"all workers in round {number}")

    def mark_fault(self, moment: str | None = None) -> None:
        """Note the time of the fault: now, or an event's time."""
        self.fault_time = since_epoch(moment) if moment else time.time()

    def check(self, holds: bool, problem: str) -> None:
        """Note a problem where something does not hold."""
        self.failed_checks += [] if holds else [problem]

    def kill_run(self) -> None:
        """End the run's process at the server as a shortage of memory would."""
        started = [event for event in self.events if event["event"] == "started"]
        os.kill(started[-1]["pid"], signal.SIGKILL)

    def resume(self) -> None:
        """Resume a run that has failed, as ``fedlmd federate --resume`` does."""
        log = EventLog(self.folder)
        self.wait(lambda: (log.final() or {}).get("event") == "failed" and not log.is_held(), "the run's failure")
        self.by_hand = True
        self.runs.resume(self.folder.name)

    def finish(self) -> None:
        """Wait until the run is over."""
        log = EventLog(self.folder)
        self.wait(log.final, "the run's end")
        self.wait(lambda: not log.is_held(), "the end of the run's process")
        releases = self.cluster.engine.home / "releases"
        chosen = (log.final() or {}).get("release")
        if chosen:
            # The node makes it the current one when it has read the event log.
            self.wait((releases / "current").exists, "the choice of the release")

    def row(self, fault: str, title: str, outcome: str, rounds: Sequence[Sequence[str]], *, by_hand: bool) -> Row:
        """The run's outcome; its rounds should have averaged the updates of these workers."""
        events = self.events
        counted = {event["round"]: event for event in events if event["event"] == "round"}
        problems = [*self.failed_checks, *self.problems(events, counted, rounds)]
        if self.by_hand != by_hand:
            problems.append(f"it was {'' if self.by_hand else 'not '}resumed by hand")
        trained = self.cluster.calls(self.name).values()
        repeated = sum(any(calls.count(number) > 1 for calls in trained) for number in range(1, len(rounds) + 1))
        unchanged = sum(event["event"] == "round" and not event["aggregated"] for event in events)
        seconds = sorted(event["seconds"] for event in counted.values())
        return Row(
            fault,
            title,
            outcome,
            seconds=round(self.seconds(events), 1),
            rounds_lost=max(repeated, unchanged),
            by_hand=self.by_hand,
            round_seconds=seconds[len(seconds) // 2] if seconds else 0.0,
            said=list(logged_reasons(events)),
            problems=problems,
        )

    def seconds(self, events: Sequence[dict[str, Any]]) -> float:
        """From the fault to the next event by which the run went on; 0 without a fault."""
        if not self.fault_time:
            return 0.0
        counting = [event for event in events if event["event"] == "calibrating" or event.get("aggregated", False)]
        times = [since_epoch(event["time"]) for event in counting]
        return next((time - self.fault_time for time in times if time > self.fault_time), 0.0)

    def problems(
        self, events: Sequence[dict[str, Any]], counted: dict[int, Any], rounds: Sequence[Sequence[str]]
    ) -> Iterator[str]:
        """What is not as it should be."""
        last = events[-1]
        if last["event"] != "finished":
            yield f"the event log ends with {last['event']}: {last.get('reason', '')}"
            return
        weights = dict(INITIAL)
        for number, workers in enumerate(rounds, 1):
            averaged = sorted(worker["name"] for worker in counted.get(number, {"workers": []})["workers"])
            if averaged != sorted(workers):
                yield f"round {number} averaged {', '.join(averaged)} instead of {', '.join(workers)}"
            weights = average(weights, number, workers)
            yield from differences(weights, self.folder / f"round-{number:03d}.safetensors")
        yield from self.release_problems(last, load_file(self.folder / f"round-{len(rounds):03d}.safetensors"))
        for folder in (self.folder, self.cluster.engine.home / "releases"):
            yield from (f"{path.name} was left half-written in {folder.name}" for path in folder.glob(".*"))

    def release_problems(self, finished: dict[str, Any], weights: Weights) -> Iterator[str]:
        """What is wrong with the release, at the server and at the workers that report to have stored it."""
        releases = list_releases(self.cluster.engine.home / "releases")
        if [path.name for path in releases] != [finished["release"]]:
            yield f"there are the releases {[path.name for path in releases]}, not only {finished['release']}"
        release = load_release(self.cluster.engine.home / "releases" / finished["release"])
        for name in finished["installed"]:
            stored = load_file(self.cluster.home / name / "trainer" / f"{release.id}.safetensors")
            if any(not np.array_equal(stored[key], array) for key, array in release.weights.items()):
                yield f"{name} stored another release"
        if sorted(finished["installed"]) != sorted(self.cluster.workers):
            yield f"only {', '.join(finished['installed'])} stored the release"
        for name, array in half({name: weights[name] for name in INITIAL}).items():
            if not np.array_equal(release.weights[name], array):
                yield f"{name} of the release is not that of the last round"


def average(weights: Weights, number: int, workers: Sequence[str]) -> Weights:
    """The average of a round of these workers, in double precision."""
    if not workers:
        return weights
    total = sum(BEHAVIOURS[worker].examples for worker in workers)
    step = sum(BEHAVIOURS[worker].examples * BEHAVIOURS[worker].step for worker in workers) / total
    return {name: trained_array(np.asarray(array, np.float64), number, step) for name, array in weights.items()}


def differences(expected: Weights, file: Path) -> Iterator[str]:
    """Where a round's checkpoint differs from what it should hold by more than single precision does."""
    if not file.exists():
        yield f"{file.name} is missing"
        return
    weights = load_file(file)
    for name, array in expected.items():
        if not np.allclose(weights[name], array, rtol=1e-6, atol=0):
            yield f"{name} in {file.name} is {weights[name].ravel()[0]} instead of {array.ravel()[0]}"


def logged_reasons(events: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Refusals, failures and resumptions in an event log, each once."""
    sentences = []
    for event in events:
        if event["event"] == "refused":
            sentences.append(f"{event['worker']} was refused: {event['reason']}")
        elif event["event"] == "kept":
            sentences.append(f"{event['good']} good updates, {event['needed']} needed: the weights were kept")
        elif event["event"] == "failed":
            sentences.append(f"failed: {event['reason']}")
        elif event["event"] == "resumed":
            sentences.append(f"resumed after round {event['round']}")
        elif event["event"] == "calibrating":
            refused = event["refused"]
            sentences += [f"{worker['name']} did not {event['step']}: {worker['reason']}" for worker in refused]
    yield from dict.fromkeys(sentences)


def since_epoch(moment: str) -> float:
    """Seconds since 1970 of an event's time."""
    return datetime.fromisoformat(moment).timestamp()
