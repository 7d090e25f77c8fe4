"""The server's Flower app: trains by the plan, calibrates with the workers, and makes the release."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from safetensors.numpy import load_file

from fedlmd.calibration import (
    LEVELS,
    added,
    check_cell_sums,
    check_sums,
    gaussians,
    pool_moments,
    too_few,
    whitening,
)
from fedlmd.federation.actions import CELLS, DENOISER, INSTALL, MOMENTS, SUMS, THRESHOLDS, TRAIN
from fedlmd.federation.config import ONE_SHOT, FederationConfig
from fedlmd.federation.events import EventLog
from fedlmd.federation.messages import (
    SECONDS,
    Reply,
    content_size,
    pack_config,
    pack_request,
    pack_weights,
    unpack_reply,
    unpack_weights,
)
from fedlmd.federation.plan import Plan, read_plan, save_weights
from fedlmd.federation.server.card import (
    Form,
    calibration_images,
    finish_release,
    form_of,
    most_common_form,
    promise_event,
)
from fedlmd.federation.server.checkpoints import Checkpoint, first_checkpoint, save_checkpoint
from fedlmd.federation.server.checks import check_moments, check_sketches, few_images
from fedlmd.federation.server.grid import PollingGrid, wait_for_clients
from fedlmd.federation.server.merge import check_denoiser, merged, shared
from fedlmd.federation.server.queries import Check, Query, QueryResult
from fedlmd.federation.server.round_record import most_asked, reasons_of
from fedlmd.federation.server.strategies import build_strategy
from fedlmd.release import Weights, dissenting, half, load_release, save_release

app = ServerApp()

WHITENING = "whitening.safetensors"
"""The file of a run's whitening."""


class NothingToRelease(RuntimeError):  # noqa: N818 - the name says it
    """No round changed the weights, or no worker gave calibration figures."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Carry out the run whose folder Flower's run config names; its event log gets a final event in any case."""
    carry_out(Path(str(context.run_config["run-dir"])), PollingGrid(grid))


def carry_out(run_dir: Path, grid: Grid, *, installs: bool = True) -> None:
    """Carry out the run in a folder, through a grid; see ``ServerRun`` for ``installs``."""
    events = EventLog(run_dir)
    with events.held():
        try:
            plan, initial = read_plan(run_dir)
            start = first_checkpoint(run_dir, shared(plan, initial))
            ServerRun(grid, plan, run_dir, events, installs).execute(start, initial)
        except Exception as error:
            # On a full disk the node writes the final event instead, once there is room.
            with suppress(OSError):
                events.append("failed", reason=str(error), kind=type(error).__name__)
            raise


@dataclass(frozen=True)
class ServerRun:
    """Carries out one run.

    Args:
        grid: Flower's grid, which reaches the workers.
        plan: of the run.
        run_dir: folder of the run; gets ``round-NNN.safetensors``.
        events: the run's event log.
        installs: whether the workers get the release at the end.
        constants: arrays that all workers get beside the weights: the whitening of an encoder's maps.
    """

    grid: Grid
    plan: Plan
    run_dir: Path
    events: EventLog
    installs: bool = True
    constants: Weights = field(default_factory=dict)

    @property
    def federation(self) -> FederationConfig:
        """How the workers train together."""
        return self.plan.federation

    def execute(self, start: Checkpoint, initial: Weights) -> None:
        """Carry out the remaining rounds, then merge, calibrate, release and install.

        Args:
            start: the checkpoint to start from.
            initial: the run's first weights, all of both networks.
        """
        self.events.append("started", run=self.plan.run, rounds=self.federation.rounds, pid=os.getpid())
        if not self.constants and (constants := self.whitening()):
            return replace(self, constants=constants).finish(start, initial)
        return self.finish(start, initial)

    def finish(self, start: Checkpoint, initial: Weights) -> None:
        """Carry out a run whose encoder is known; arguments as for ``execute``."""
        trained, last = self.train(start)
        # When a run is resumed after its last round, no worker may be connected yet; one is enough to calibrate.
        wait_for_clients(self.grid, self.federation.min_workers, self.federation.wait_seconds, self.events)
        # Thresholds belong to the weights that the release will have, so the workers calibrate the halved ones.
        weights = half(self.merge(trained, initial)) | self.constants
        weights |= self.class_gaussians(weights)
        card = finish_release(self.plan, weights, last, self.calibrate(weights))
        if promise := card["calibration"].get("promise"):
            numbers, notes = promise_event(promise)
            self.events.append("promise", **numbers, notes=notes)
        folder = save_release(Path(self.plan.releases_dir), card, weights)
        installed = self.install(folder) if self.installs else []
        taken = {"workers": len(last["workers"]), "expected": most_asked(self.events, last)}
        self.events.append("finished", release=folder.name, installed=installed, metrics=card["metrics"], **taken)

    def train(self, start: Checkpoint) -> tuple[Weights, dict[str, Any]]:
        """Carry out the remaining rounds: the last weights, and the event of the last round that changed them.

        Raises:
            NothingToRelease: when no round did.
        """
        strategy = build_strategy(self.federation, start.weights, self.events)
        strategy.load_state(start.round, start.state)
        strategy.constants = self.constants
        changes: list[dict[str, Any]] = []

        def checkpoint(number: int, arrays: ArrayRecord) -> MetricRecord | None:
            # Flower calls this after each round. The weights are written first: they exist when the event is read.
            if number > 0:
                save_checkpoint(self.run_dir, start.round + number, unpack_weights(arrays), strategy.state)
                event = strategy.record.event()
                changes.extend([event] if event["aggregated"] else [])
                self.events.append("round", rounds=self.federation.rounds, **event)
                if number == 1 and (warning := few_images(event["workers"], self.plan.settings)):
                    self.events.append("few-images", notes=[warning])
            return None

        result = strategy.start(
            grid=self.grid,
            initial_arrays=pack_weights(start.weights),
            num_rounds=self.federation.rounds - start.round,
            timeout=self.federation.round_timeout,
            train_config=pack_config(TRAIN, self.config({"rounds": self.federation.rounds})),
            evaluate_fn=checkpoint,
        )
        if changes:
            return strategy.released(unpack_weights(result.arrays)), changes[-1]
        if start.round > 0:
            return strategy.released(start.weights), start.event
        reasons = reasons_of(strategy.record.refused)
        raise NothingToRelease(f"no round of {self.federation.rounds} changed the weights (in the last: {reasons})")

    def merge(self, trained: Weights, initial: Weights) -> Weights:
        """The weights of the release, with the workers' denoisers merged where the rounds did not average them."""
        if self.federation.merge == "rounds":
            return trained
        labels = len(self.plan.settings["labels"])
        # In a single round the workers start from common weights; else from their local layers.
        one_shot = self.federation.merge in ONE_SHOT
        weights, rounds = (initial | trained, self.federation.rounds) if one_shot else (trained, 1)
        check: Check = partial(check_denoiser, expected=initial, labels=labels)
        replies = self.consistent_replies(Query(DENOISER, weights, check, timeout_rounds=rounds))
        classifier = {name: array for name, array in trained.items() if name.startswith("classifier.")}
        return classifier | merged(self.federation.merge, replies)

    def class_gaussians(self, weights: Weights) -> Weights:
        """A Gaussian for each class, of the final classifier's embeddings of all workers' images."""
        return gaussians(self.sums(Query(SUMS, weights, lambda reply: check_sums(reply.weights))))

    def whitening(self) -> Weights:
        """The whitening of the run's encoder, by the cells of all workers' images; nothing without an encoder.

        Raises:
            NothingToRelease: when no worker gave sums, or the maps of their images do not vary.
        """
        encoder = self.plan.settings.get("encoder", {})
        if not encoder.get("side"):
            return {}
        path = self.run_dir / WHITENING
        if path.exists():
            return load_file(path)  # of a run that is resumed
        wait_for_clients(self.grid, self.federation.min_workers, self.federation.wait_seconds, self.events)
        query = Query(CELLS, {}, lambda reply: check_cell_sums(reply.weights, encoder["features"]))
        try:
            fitted = whitening(self.sums(query), encoder["channels"], encoder["leading"])
        except ValueError as error:
            raise NothingToRelease(str(error)) from None
        save_weights(path, fitted)
        return fitted

    def sums(self, query: Query) -> Weights:
        """The sums of all workers' replies to a query, which are added as they arrive: of a reply its form is kept."""
        sums: dict[Form, Weights] = {}

        def add(reply: Reply) -> Reply:
            form, zero = form_of(reply), np.float32(0)
            sums[form] = added([sums[form], reply.weights]) if form in sums else reply.weights
            empty = {name: np.broadcast_to(zero, array.shape) for name, array in reply.weights.items()}
            return replace(reply, weights=empty)

        return sums[form_of(self.consistent_replies(replace(query, reduce=add))[0])]

    def calibrate(self, weights: Weights) -> dict[str, list[Reply]]:
        """Moments of the workers' scores; then sketches of their scores, made with the pooled moments.

        Raises:
            NothingToRelease: when all workers together have too few images to ever call one unknown.
        """
        moments = self.consistent_replies(Query(MOMENTS, weights, lambda reply: check_moments(reply.metrics)))
        pooled = pool_moments([reply.metrics for reply in moments])

        calibration = self.plan.settings["calibration"]

        def check(reply: Reply) -> str | None:
            return check_sketches(reply.metrics, LEVELS, calibration["images"])

        sketches = self.consistent_replies(Query(THRESHOLDS, weights, check, {"moments": pooled}))
        count = calibration_images(sketches)
        if reason := too_few(count, calibration["alpha"], images=calibration["images"]):
            raise NothingToRelease(reason)
        return {MOMENTS: moments, THRESHOLDS: sketches}

    def consistent_replies(self, query: Query) -> list[Reply]:
        """Good replies to a query after the rounds, all of the same form.

        Raises:
            NothingToRelease: when there is none; one is enough.
        """
        action, result = query.action, self.send(query)
        if result.good:
            common = most_common_form(result.good)
            other = [position for position, reply in enumerate(result.good) if form_of(reply) != common]
            result.refuse(other, "its figures are not those of most workers")
        # Only the replies to "thresholds" have outputs on the self-test's images.
        outputs = [reply.weights for reply in result.good] if action == THRESHOLDS else []
        result.refuse(dissenting(outputs), "its self-test differs from that of most workers")
        self.events.append("calibrating", step=action, **result.event())
        if not result.good:
            reasons = reasons_of(result.refused)
            raise NothingToRelease(f"none of {result.asked} workers gave {action} to calibrate with ({reasons})")
        return result.good

    def install(self, folder: Path) -> list[str]:
        """Send the release to every worker; returns the names of those that stored it."""
        release = load_release(folder)
        config = {"release": release.id, "card": release.card}
        result = self.send(Query(INSTALL, release.weights, lambda _: None, config))
        self.events.append("installed", release=release.id, **result.event())
        return [reply.worker for reply in result.good]

    def send(self, query: Query) -> QueryResult:
        """Send a query to all connected workers and wait for their replies."""
        record, timeout = (
            pack_weights({**query.weights, **self.constants}),
            query.timeout_rounds * self.federation.round_timeout,
        )
        config = self.config({SECONDS: timeout, **query.config})
        messages = [pack_request(query.action, config, record, node) for node in self.grid.get_node_ids()]
        result = QueryResult(len(messages))
        for message in self.grid.send_and_receive(messages, timeout=timeout):
            reply = unpack_reply(message)
            reason = reply.error or query.check(reply)
            if reason is None:
                result.good.append(query.reduce(reply))
                result.sizes.append(content_size(message.content))
            else:
                result.refused.append({"name": reply.worker, "reason": reason})
        return result

    def config(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """The config of every request, and more."""
        return {"run": self.plan.run, "settings": self.plan.settings, SECONDS: self.federation.round_timeout, **more}
