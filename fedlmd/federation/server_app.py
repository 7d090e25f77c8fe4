"""The server's Flower app: trains by the plan, lets the workers calibrate, and makes the release."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fedlmd import artifacts
from fedlmd.artifacts import half
from fedlmd.federation.checkpoints import Checkpoint, first_checkpoint, save_checkpoint
from fedlmd.federation.events import EventLog
from fedlmd.federation.grid import PollingGrid
from fedlmd.federation.merge import ONE_SHOT, check_denoiser, merged, shared
from fedlmd.federation.messages import (
    DENOISER,
    INSTALL,
    MOMENTS,
    SECONDS,
    SUMS,
    THRESHOLDS,
    TRAIN,
    Reply,
    Weights,
    content_size,
    pack_config,
    pack_request,
    pack_weights,
    unpack_reply,
    unpack_weights,
)
from fedlmd.federation.plan import Plan, read_plan
from fedlmd.federation.questions import Answers, Check, Question
from fedlmd.federation.record import reasons_of
from fedlmd.federation.release import (
    Form,
    check_moments,
    check_sketches,
    finish_release,
    form_of,
    pool_moments,
    usual_form,
)
from fedlmd.federation.strategies import build_strategy
from fedlmd.self_test import dissenting
from fedlmd.statistics import added, check_sums, gaussians

__all__ = ["Conductor", "NothingToRelease", "app", "carry_out", "main"]

app = ServerApp()


class NothingToRelease(RuntimeError):  # noqa: N818 - the name says it
    """No round changed the weights, or no worker gave calibration figures."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the run whose folder Flower's run config names; its diary gets a last word in any case."""
    carry_out(Path(str(context.run_config["run-dir"])), PollingGrid(grid))


def carry_out(run_dir: Path, grid: Grid, *, installs: bool = True) -> None:
    """Carry out the run in a folder, through a grid; see ``Conductor`` for ``installs``."""
    events = EventLog(run_dir)
    with events.held():
        try:
            plan, initial = read_plan(run_dir)
            start = first_checkpoint(run_dir, shared(plan.merge, initial))
            Conductor(grid, plan, run_dir, events, installs).conduct(start, initial)
        except Exception as error:
            # On a disk without room for this line the node has the last word, once there is room.
            with suppress(OSError):
                events.append("failed", reason=str(error), kind=type(error).__name__)
            raise


@dataclass(frozen=True)
class Conductor:
    """Carries out one run, step by step.

    Args:
        grid: Flower's line to the workers.
        plan: what to do.
        run_dir: folder of the run; gets ``round-NNN.safetensors``.
        events: the run's diary.
        installs: whether the workers get the release at the end.
    """

    grid: Grid
    plan: Plan
    run_dir: Path
    events: EventLog
    installs: bool = True

    def conduct(self, start: Checkpoint, initial: Weights) -> None:
        """What is left of it: rounds, merge, calibration, release, installation.

        Args:
            start: where the rounds stand.
            initial: the run's first weights, of both networks whole.
        """
        self.events.append("started", run=self.plan.run, rounds=self.plan.rounds, pid=os.getpid())
        trained, last = self.train(start)
        self.gather()
        # Thresholds belong to the very weights that will answer, so the workers calibrate the halved ones.
        weights = half(self.merge(trained, initial))
        weights |= self.describe(weights)
        card = finish_release(self.plan, weights, last, self.calibrate(weights))
        folder = artifacts.save(Path(self.plan.releases_dir), card, weights)
        installed = self.install(folder) if self.installs else []
        self.events.append("finished", release=folder.name, installed=installed, metrics=card["metrics"])

    def train(self, start: Checkpoint) -> tuple[Weights, dict[str, Any]]:
        """The rounds that are left: the last weights, and the event of the last round that changed them.

        Raises:
            NothingToRelease: when no round did.
        """
        strategy = build_strategy(self.plan, start.weights, self.events)
        strategy.go_on(start.round, start.state)
        changes: list[dict[str, Any]] = []

        def checkpoint(number: int, arrays: ArrayRecord) -> MetricRecord | None:
            # Flower calls this after each round. The weights are written first: who reads the event finds them.
            if number > 0:
                save_checkpoint(self.run_dir, start.round + number, unpack_weights(arrays), strategy.state)
                event = strategy.record.event()
                changes.extend([event] if event["aggregated"] else [])
                self.events.append("round", rounds=self.plan.rounds, **event)
            return None

        result = strategy.start(
            grid=self.grid,
            initial_arrays=pack_weights(start.weights),
            num_rounds=self.plan.rounds - start.round,
            timeout=self.plan.round_timeout,
            train_config=pack_config(TRAIN, self.config({"rounds": self.plan.rounds})),
            evaluate_fn=checkpoint,
        )
        if changes:
            return strategy.released(unpack_weights(result.arrays)), changes[-1]
        if start.round > 0:
            return strategy.released(start.weights), start.event
        reasons = reasons_of(strategy.record.refused)
        raise NothingToRelease(f"no round of {self.plan.rounds} changed the weights (in the last: {reasons})")

    def gather(self) -> None:
        """Wait for the workers: a run that goes on after its last round may find that none is connected yet.

        With fewer than the rounds need it goes on once ``wait_seconds`` have passed: one is enough to calibrate.
        """
        deadline, said = time.monotonic() + self.plan.wait_seconds, -1
        while len(nodes := list(self.grid.get_node_ids())) < self.plan.min_workers and time.monotonic() < deadline:
            if len(nodes) != said:
                said = len(nodes)
                self.events.append("waiting", connected=said, needed=self.plan.min_workers)
            time.sleep(0.5)

    def merge(self, trained: Weights, initial: Weights) -> Weights:
        """The weights of the release, with the denoiser that the sites' come to where the rounds did not average it."""
        if self.plan.merge == "rounds":
            return trained
        labels = len(self.plan.settings["labels"])
        # A single round starts from common weights; else the sites go on from the layers that they kept.
        once = self.plan.merge in ONE_SHOT
        given, patience = (initial | trained, self.plan.rounds) if once else (trained, 1)
        check: Check = partial(check_denoiser, expected=initial, labels=labels)
        replies = self.consult(Question(DENOISER, given, check, patience=patience))
        classifier = {name: array for name, array in trained.items() if name.startswith("classifier.")}
        return classifier | merged(self.plan.merge, replies)

    def describe(self, weights: Weights) -> Weights:
        """A Gaussian for each class, of all workers' images as the final weights see them."""
        sums: dict[Form, Weights] = {}

        def add(reply: Reply) -> Reply:
            form, flat = form_of(reply), np.float32(0)
            sums[form] = added([sums[form], reply.weights]) if form in sums else reply.weights
            return replace(reply, weights={name: np.broadcast_to(flat, of.shape) for name, of in reply.weights.items()})

        # Sums add up as they come: of a reply that was added only its form stays.
        replies = self.consult(Question(SUMS, weights, lambda reply: check_sums(reply.weights), kept=add))
        return gaussians(sums[form_of(replies[0])])

    def calibrate(self, weights: Weights) -> dict[str, list[Reply]]:
        """Moments of the workers' scores; then, with the pooled moments known to all, sketches of their scores."""
        moments = self.consult(Question(MOMENTS, weights, lambda reply: check_moments(reply.metrics)))
        pooled = pool_moments([reply.metrics for reply in moments])
        levels = self.plan.levels
        asked = Question(
            THRESHOLDS, weights, lambda reply: check_sketches(reply.metrics, levels), config={"moments": pooled}
        )
        sketches = self.consult(asked)
        return {MOMENTS: moments, THRESHOLDS: sketches}

    def consult(self, question: Question) -> list[Reply]:
        """Good replies to a question after the rounds, all of the same form.

        Raises:
            NothingToRelease: when there is none; one is enough.
        """
        action, answers = question.action, self.ask(question)
        usual = usual_form(answers.good) if answers.good else frozenset()
        other = [position for position, reply in enumerate(answers.good) if form_of(reply) != usual]
        for position in reversed(other):
            name = answers.good.pop(position).worker
            answers.refused.append({"name": name, "reason": "its figures are not those of most workers"})
        # Findings of the self-test come with the thresholds; other questions have none to differ in.
        tested = [reply.weights for reply in answers.good] if action == THRESHOLDS else []
        for position in reversed(dissenting(tested)):
            name = answers.good.pop(position).worker
            answers.refused.append({"name": name, "reason": "it answers the self-test unlike most workers"})
        self.events.append("calibrating", step=action, **answers.event())
        if not answers.good:
            reasons = reasons_of(answers.refused)
            raise NothingToRelease(f"none of {answers.asked} workers gave {action} to calibrate with ({reasons})")
        return answers.good

    def install(self, folder: Path) -> list[str]:
        """Send the release to every worker; returns the names of those that stored it."""
        release = artifacts.load(folder)
        config = {"release": release.id, "card": release.card}
        answers = self.ask(Question(INSTALL, release.weights, lambda _: None, config))
        self.events.append("installed", release=release.id, **answers.event())
        return [reply.worker for reply in answers.good]

    def ask(self, question: Question) -> Answers:
        """Ask all connected workers for one thing and wait for them."""
        record, timeout = pack_weights(question.weights), question.patience * self.plan.round_timeout
        told = self.config({SECONDS: timeout, **question.config})
        messages = [pack_request(question.action, told, record, node) for node in self.grid.get_node_ids()]
        answers = Answers(len(messages))
        for message in self.grid.send_and_receive(messages, timeout=timeout):
            reply = unpack_reply(message)
            reason = reply.error or question.check(reply)
            if reason is None:
                answers.good.append(question.kept(reply))
                answers.sizes.append(content_size(message.content))
            else:
                answers.refused.append({"name": reply.worker, "reason": reason})
        return answers

    def config(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """What every request tells the workers, and more."""
        return {"run": self.plan.run, "settings": self.plan.settings, SECONDS: self.plan.round_timeout, **more}
