"""The federated runs of a server: planned here, carried out by Flower, followed through their diaries."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedlmd import artifacts
from fedlmd.artifacts import Weights
from fedlmd.detection import LEVELS
from fedlmd.federation.checkpoints import last_good
from fedlmd.federation.engine import EngineError, ServerEngine, forget_run_id, has_run_id
from fedlmd.federation.events import FINAL, RESUMED, EventLog, follow_events, last_attempt
from fedlmd.federation.merge import shared
from fedlmd.federation.plan import NotWritten, Plan, PlanError, StrategyPlan, read_plan, write_plan
from fedlmd.networks import build
from fedlmd.node.config import NodeConfig
from fedlmd.node.releases import SHIPPED
from fedlmd.service import Busy, Refused, RunRequest, RunState, RunSummary, Unavailable, UnknownRun
from fedlmd.settings import Settings, from_mapping, merge, to_mapping

__all__ = ["ServerRuns", "plan_of"]

log = logging.getLogger(__name__)


class ServerRuns:
    """Implements ``fedlmd.service.Runs``.

    Args:
        engine: Flower's server.
        config: the node's.
    """

    def __init__(self, engine: ServerEngine, config: NodeConfig) -> None:
        self.engine, self.config = engine, config
        self.lock = threading.Lock()

    def start(self, request: RunRequest) -> str:
        """Plan a run and hand it to Flower; returns its id."""
        settings = self.settings_of(request)
        weights = self.first_weights(settings, request.pretrained_detector)
        with self.lock:
            self.check_idle()
            run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            folder = self.config.runs / run
            try:
                write_plan(folder, plan_of(run, settings, self.config.releases), weights)
            except NotWritten as error:
                raise Unavailable(str(error)) from None
            EventLog(folder).append("submitted", run=run, rounds=settings.federation.rounds)
        self.hand_over(folder)
        return run

    def resume(self, run: str) -> None:
        """Go on with a run that failed or was stopped, after its last good round."""
        with self.lock:
            folder = self.folder(run)
            self.check_resumable(folder)
            try:
                plan, initial = read_plan(folder)
            except PlanError as error:
                raise Refused(f"the run {run!r} cannot be resumed: {error}") from None
            number, skipped = last_good(folder, shared(plan.merge, initial))
            events = EventLog(folder)
            try:
                events.mend()
                # Who follows the run since before it failed must not ask Flower about that failure again.
                forget_run_id(folder)
                events.append(RESUMED, run=run, round=number, rounds=plan.rounds, skipped=skipped)
            except OSError as error:
                raise Unavailable(f"{events.path} cannot be written ({error.strerror}): make room there") from None
        self.hand_over(folder)

    def check_idle(self) -> None:
        """Raise Busy while a run is going on."""
        if any(run.state == "running" for run in self.list()):
            raise Busy("another run is going on; stop it, or wait for its end")

    def check_resumable(self, folder: Path) -> None:
        """Raise the reason why a run cannot be resumed now, if there is one."""
        summary = summarise(folder)
        if summary is None:
            raise UnknownRun(f"the run {folder.name!r} was never started at this server; start a new one")
        if summary.state == "finished":
            raise Refused(f"the run {folder.name!r} is finished, its release is {summary.release}; start a new run")
        if summary.state == "running":
            raise Busy(f"the run {folder.name!r} is still going on; follow its events, or stop it first", 5)
        self.check_idle()
        if EventLog(folder).is_held():
            raise Busy(f"the process of the run {folder.name!r} is just ending; ask again in some seconds", 5)

    def hand_over(self, folder: Path) -> None:
        """Give a run to Flower and follow it."""
        try:
            self.engine.submit(folder)
        except EngineError as error:
            EventLog(folder).append("failed", reason=str(error), kind="EngineError")
            raise Unavailable(f"Flower did not take the run: {error}") from None
        self.watch(folder)

    def settings_of(self, request: RunRequest) -> Settings:
        """The server's settings with the run's put over them."""
        changes = dict(request.settings)
        if request.labels is not None:
            changes["labels"] = list(request.labels)
        settings = from_mapping(merge(to_mapping(self.config.settings), changes))
        if request.pretrained_detector:
            settings = replace(settings, denoiser=replace(settings.denoiser, steps=0))
        return settings

    def first_weights(self, settings: Settings, pretrained_detector: bool) -> Weights:
        """Where the run starts: fresh weights, or the shipped release's denoiser beside a fresh classifier."""
        weights = build(settings).weights()
        if pretrained_detector:
            shipped = shipped_for(settings.labels)
            taken = {name: of.astype("float32") for name, of in shipped.weights.items() if name.startswith("denoiser.")}
            if {n: of.shape for n, of in taken.items()} != {n: weights[n].shape for n in weights if n in taken}:
                raise Refused(
                    "the shipped detector has another shape than these settings; leave models.denoiser as it is"
                )
            weights.update(taken)
        return weights

    def list(self) -> list[RunSummary]:
        """All runs, newest first."""
        folders = sorted((path for path in self.config.runs.glob("*") if path.is_dir()), reverse=True)
        return [summary for folder in folders if (summary := summarise(folder)) is not None]

    def diary(self, run: str) -> Sequence[dict[str, Any]]:
        """The events of a run so far."""
        return EventLog(self.folder(run)).read()

    def events(self, run: str) -> Iterator[dict[str, Any] | None]:
        """All events of a run, then new ones as they come; None once a second while nothing does."""
        return follow_events(EventLog(self.folder(run)).path, silence=1.0, poll=0.2)

    def stop(self, run: str) -> None:
        """Stop a run. What it had learnt up to its last round stays in its folder."""
        folder = self.folder(run)
        if EventLog(folder).final() is None:
            try:
                self.engine.stop_run(folder)
            except EngineError as error:
                raise Unavailable(f"Flower did not stop the run: {error}") from None

    def folder(self, run: str) -> Path:
        """A run's folder. Raises UnknownRun."""
        if run not in [path.name for path in self.config.runs.glob("*")]:
            raise UnknownRun(f"there is no run {run!r} at this server")
        return self.config.runs / run

    def resume_watching(self) -> None:
        """Follow the runs that had not ended when the node did; those that died with it get their last word."""
        for run in self.list():
            folder = self.config.runs / run.id
            if run.state == "running" and has_run_id(folder):
                self.watch(folder)
            elif run.state == "running":
                reason = "the server was ended before Flower had taken the run; resume it"
                EventLog(folder).append("failed", reason=reason, kind="EngineError")

    def watch(self, folder: Path) -> None:
        """Follow a run to its end in a thread, so that its death is noticed and its release becomes the current one."""
        threading.Thread(target=self.follow, args=(folder,), name=f"watch-{folder.name}", daemon=True).start()

    def follow(self, folder: Path) -> None:
        """Follow a run to its end."""
        *_, event = self.engine.follow(folder)
        if event["event"] == "finished":
            artifacts.choose(self.config.releases, event["release"])
        log.info("run %s %s %s", folder.name, event["event"], event.get("reason", ""))


def plan_of(run: str, settings: Settings, releases: Path) -> Plan:
    """What Flower's processes are to do."""
    of, mapping = settings.federation, to_mapping(settings)
    # Where a site's images come from is the site's own matter.
    del mapping["data"]
    return Plan(
        run=run,
        rounds=of.rounds,
        releases_dir=str(releases.absolute()),
        strategy=StrategyPlan(of.strategy, of.mu, of.weighting, of.server_rate, of.trim, of.byzantine, of.server_ema),
        min_workers=of.min_workers,
        min_replies=of.min_replies,
        wait_seconds=of.wait_seconds,
        round_timeout=of.round_timeout,
        max_failed_rounds=of.max_failed_rounds,
        max_norm_ratio=of.max_norm_ratio,
        compression=of.compression,
        merge=of.merge,
        levels=LEVELS,
        settings=mapping,
        card={
            "settings": mapping,
            "calibration": {"alpha": settings.calibration.alpha},
            "training": {"how": "federated"},
        },
    )


def summarise(folder: Path) -> RunSummary | None:
    """How a run stands, from its diary; None for a folder without one."""
    events = EventLog(folder).read()
    if not events:
        return None
    ended = next((event for event in last_attempt(events) if event["event"] in FINAL), None)
    state: RunState = ended["event"] if ended else "running"
    return RunSummary(
        id=folder.name,
        state=state,
        round=next((int(event["round"]) for event in reversed(events) if event["event"] in ("round", RESUMED)), 0),
        rounds=max((int(event["rounds"]) for event in events if "rounds" in event), default=0),
        started=datetime.fromisoformat(events[0]["time"]),
        release=ended.get("release") if ended else None,
        reason=ended.get("reason") if ended else None,
    )


def shipped_for(labels: Sequence[str]) -> artifacts.Release:
    """The shipped release whose labels these are, in this order.

    Raises:
        Refused: when there is none.
    """
    every = [artifacts.load(folder) for folder in dict.fromkeys(SHIPPED.values())]
    for release in every:
        if release.card["settings"]["labels"] == list(labels):
            return release
    known = " or ".join(", ".join(release.card["settings"]["labels"]) for release in every)
    raise Refused(f"a shipped detector knows the labels {known}; ask for those, or train one")
