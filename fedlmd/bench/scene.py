"""One run that meets a fault: led to the fault and to its end, and checked by value."""

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

from fedlmd import artifacts
from fedlmd.bench.numpy_trainer import Manner, law
from fedlmd.bench.stage import INITIAL, Stage, wait_for
from fedlmd.federation.events import EventLog

__all__ = ["MANNERS", "Row", "Scene", "Skipped"]

Found = TypeVar("Found")

ROUNDS = 3

# Steps and numbers of examples by which it shows in the weights whose updates were averaged.
MANNERS = {f"site-{number}": Manner(step=float(number), examples=number + 1) for number in range(3)}


class Skipped(RuntimeError):  # noqa: N818 - the name says it
    """A fault that cannot be injected here; the text says why."""


@dataclass
class Row:
    """What came of a fault.

    Args:
        fault: its name.
        title: what was done, in words.
        outcome: what happened, in words.
        seconds: from the fault to the next round, or step of the calibration, that counted.
        rounds_lost: rounds that some worker trained more than once, and rounds that left the weights as they were.
        by_hand: whether somebody had to resume the run.
        round_seconds: median of the run's rounds.
        said: what the diary says of it.
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


class Scene:
    """One run on a stage.

    Args:
        stage: the processes.
        limit: seconds that each step may take.
    """

    def __init__(self, stage: Stage, limit: float) -> None:
        self.stage, self.limit = stage, limit
        self.runs = stage.runs()
        self.run, self.folder = "", Path()
        self.happened = 0.0
        self.by_hand = False
        self.noted: list[str] = []

    def begin(
        self,
        run: str = "faulty",
        *,
        gates: Sequence[int | str] = (),
        manners: Mapping[str, Manner] | None = None,
        **plan: Any,  # noqa: ANN401 - of Plan
    ) -> None:
        """Start the run, with some of its rounds held up."""
        self.prepare(run, manners, **plan)
        for gate in gates:
            self.stage.close(gate)
        self.hand_over()

    def prepare(self, run: str = "faulty", manners: Mapping[str, Manner] | None = None, **plan: Any) -> None:  # noqa: ANN401 - of Plan
        """Plan the run."""
        card = {"calibration": {"alpha": 0.05}}
        of = {"rounds": ROUNDS, "card": card, "min_workers": 2, "wait_seconds": 60.0, "round_timeout": 200.0, **plan}
        self.run, self.folder = run, self.stage.plan(run, manners={**MANNERS, **(manners or {})}, **of)

    def hand_over(self) -> None:
        """Give the planned run to Flower and follow it as a node does."""
        self.stage.engine.submit(self.folder)
        self.runs.watch(self.folder)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The run's diary so far."""
        return EventLog(self.folder).read()

    def seen(self, kind: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - of an event
        """The first event of a kind with these fields, waited for."""
        wanted = {"event": kind, **fields}

        def found() -> dict[str, Any] | None:
            return next((event for event in self.events if wanted.items() <= event.items()), None)

        return self.wait(found, f"the event {wanted}")

    def wait(self, what: Callable[[], Found | None], name: str) -> Found:
        """Wait for something. Raises TimeoutError, with its name."""
        try:
            return wait_for(what, self.limit)
        except TimeoutError as error:
            last = self.events[-1:] if self.folder.exists() else []
            raise TimeoutError(f"{name}: {error}; the diary ends with {last}") from None

    def reach(self, number: int) -> None:
        """Wait until all workers are in a round that is held up."""

        def there() -> bool:
            calls = self.stage.calls(self.run)
            return self.stage.at_work() and all(calls.get(name, [0])[-1] == number for name in self.stage.workers)

        self.wait(there, f"all workers in round {number}")

    def now(self) -> None:
        """Here the fault happens."""
        self.happened = time.time()

    def happened_at(self, moment: str | None) -> None:
        """The fault happened at this time of the diary, if at all."""
        self.happened = since_epoch(moment) if moment else 0.0

    def expect(self, so: bool, problem: str) -> None:
        """Note a problem where something is not so."""
        self.noted += [] if so else [problem]

    def kill_run(self) -> None:
        """End the run's process at the server as a shortage of memory would."""
        started = [event for event in self.events if event["event"] == "started"]
        os.kill(started[-1]["pid"], signal.SIGKILL)

    def resume(self) -> None:
        """Go on with a run that has failed, as ``fedlmd federate --resume`` does."""
        log = EventLog(self.folder)
        self.wait(lambda: (log.final() or {}).get("event") == "failed" and not log.is_held(), "the run's failure")
        self.by_hand = True
        self.runs.resume(self.folder.name)

    def end(self) -> None:
        """Wait until the run is over."""
        log = EventLog(self.folder)
        self.wait(log.final, "the run's end")
        self.wait(lambda: not log.is_held(), "the end of the run's process")
        releases = self.stage.engine.home / "releases"
        chosen = (log.final() or {}).get("release")
        if chosen:
            # The node makes it the current one when it has read the diary.
            self.wait((releases / "current").exists, "the choice of the release")

    def row(self, fault: str, title: str, outcome: str, rounds: Sequence[Sequence[str]], *, by_hand: bool) -> Row:
        """What came of the run, whose rounds should have averaged the updates of these workers."""
        events = self.events
        counted = {event["round"]: event for event in events if event["event"] == "round"}
        problems = [*self.noted, *self.problems(events, counted, rounds)]
        if self.by_hand != by_hand:
            problems.append(f"it was {'' if self.by_hand else 'not '}resumed by hand")
        trained = self.stage.calls(self.run).values()
        again = sum(any(calls.count(number) > 1 for calls in trained) for number in range(1, len(rounds) + 1))
        kept = sum(event["event"] == "round" and not event["aggregated"] for event in events)
        seconds = sorted(event["seconds"] for event in counted.values())
        return Row(
            fault,
            title,
            outcome,
            seconds=round(self.seconds(events), 1),
            rounds_lost=max(again, kept),
            by_hand=self.by_hand,
            round_seconds=seconds[len(seconds) // 2] if seconds else 0.0,
            said=list(said(events)),
            problems=problems,
        )

    def seconds(self, events: Sequence[dict[str, Any]]) -> float:
        """From the fault to the next event by which the run went on."""
        counting = [event for event in events if event["event"] == "calibrating" or event.get("aggregated", False)]
        times = [since_epoch(event["time"]) for event in counting]
        return next((time - self.happened for time in times if time > self.happened), 0.0) if self.happened else 0.0

    def problems(
        self, events: Sequence[dict[str, Any]], counted: dict[int, Any], rounds: Sequence[Sequence[str]]
    ) -> Iterator[str]:
        """What is not as it should be."""
        last = events[-1]
        if last["event"] != "finished":
            yield f"the diary ends with {last['event']}: {last.get('reason', '')}"
            return
        weights = dict(INITIAL)
        for number, workers in enumerate(rounds, 1):
            averaged = sorted(worker["name"] for worker in counted.get(number, {"workers": []})["workers"])
            if averaged != sorted(workers):
                yield f"round {number} averaged {', '.join(averaged)} instead of {', '.join(workers)}"
            weights = average(weights, number, workers)
            yield from differences(weights, self.folder / f"round-{number:03d}.safetensors")
        yield from self.release_problems(last, load_file(self.folder / f"round-{len(rounds):03d}.safetensors"))
        for folder in (self.folder, self.stage.engine.home / "releases"):
            yield from (f"{path.name} was left half-written in {folder.name}" for path in folder.glob(".*"))

    def release_problems(self, finished: dict[str, Any], weights: artifacts.Weights) -> Iterator[str]:
        """What is wrong with the release, at the server and at the workers that say that they stored it."""
        releases = artifacts.releases(self.stage.engine.home / "releases")
        if [path.name for path in releases] != [finished["release"]]:
            yield f"there are the releases {[path.name for path in releases]}, not only {finished['release']}"
        release = artifacts.load(self.stage.engine.home / "releases" / finished["release"])
        for name in finished["installed"]:
            stored = load_file(self.stage.home / name / "line" / f"{release.id}.safetensors")
            if any(not np.array_equal(stored[key], array) for key, array in release.weights.items()):
                yield f"{name} stored another release"
        if sorted(finished["installed"]) != sorted(self.stage.workers):
            yield f"only {', '.join(finished['installed'])} stored the release"
        for name, array in artifacts.half({name: weights[name] for name in INITIAL}).items():
            if not np.array_equal(release.weights[name], array):
                yield f"{name} of the release is not that of the last round"


def average(weights: artifacts.Weights, number: int, workers: Sequence[str]) -> artifacts.Weights:
    """What a round of these workers comes to, in double precision."""
    if not workers:
        return weights
    total = sum(MANNERS[worker].examples for worker in workers)
    step = sum(MANNERS[worker].examples * MANNERS[worker].step for worker in workers) / total
    return {name: law(np.asarray(array, np.float64), number, step) for name, array in weights.items()}


def differences(expected: artifacts.Weights, file: Path) -> Iterator[str]:
    """Where a round's checkpoint differs from what it should hold by more than single precision does."""
    if not file.exists():
        yield f"{file.name} is missing"
        return
    found = load_file(file)
    for name, array in expected.items():
        if not np.allclose(found[name], array, rtol=1e-6, atol=0):
            yield f"{name} in {file.name} is {found[name].ravel()[0]} instead of {array.ravel()[0]}"


def said(events: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What a diary says of refusals, failures and going on; nothing twice."""
    told = []
    for event in events:
        if event["event"] == "refused":
            told.append(f"{event['worker']} was refused: {event['reason']}")
        elif event["event"] == "kept":
            told.append(f"{event['good']} good updates, {event['needed']} needed: the weights were kept")
        elif event["event"] == "failed":
            told.append(f"failed: {event['reason']}")
        elif event["event"] == "resumed":
            told.append(f"resumed after round {event['round']}")
        told += [f"{of['name']} did not {event['step']}: {of['reason']}" for of in not_calibrated(event)]
    yield from dict.fromkeys(told)


def not_calibrated(event: dict[str, Any]) -> list[dict[str, str]]:
    """Who gave no figures in a step of the calibration."""
    return event["refused"] if event["event"] == "calibrating" else []


def since_epoch(time_of: str) -> float:
    """Seconds since 1970 of an event's time."""
    return datetime.fromisoformat(time_of).timestamp()
