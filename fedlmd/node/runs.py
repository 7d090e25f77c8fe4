"""The federated runs of a server: planned here, executed by Flower, followed through their event logs."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedlmd.federation.events import FINAL, RESUMED, EventLog, follow_events, last_attempt
from fedlmd.federation.flower.engine import ServerEngine
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.run_commands import forget_run_id, has_run_id
from fedlmd.federation.plan import NotWritten, PlanError, read_plan, write_plan
from fedlmd.federation.server.checkpoints import last_good
from fedlmd.federation.server.merge import shared
from fedlmd.federation.worker_list import AnnouncedWorker
from fedlmd.models import build
from fedlmd.node.config import NodeConfig
from fedlmd.node.preparation import settle, wait_for_images
from fedlmd.release import SHIPPED, Release, Weights, load_release, set_current
from fedlmd.service.contract import Busy, Refused, Unavailable, UnknownRun
from fedlmd.service.schema import RunOrder, RunSummary
from fedlmd.settings import Settings, from_mapping, merge, plan_of, to_mapping, with_preset

log = logging.getLogger(__name__)


class ServerRuns:
    """Implements ``fedlmd.service.contract.Runs``.

    Args:
        engine: Flower's server.
        config: the node's.
    """

    def __init__(self, engine: ServerEngine, config: NodeConfig) -> None:
        self.engine, self.config = engine, config
        self.lock = threading.Lock()
        self.submitting: set[Path] = set()

    def start(self, order: RunOrder) -> str:
        """Plan a run and hand it to Flower; returns its id.

        Where the rules for pixels are left open, that happens in a thread, once the workers' images are known.
        """
        settings = self.settings_of(order)
        notes: tuple[str, ...] = ()
        if settings.is_resolved:
            settings, notes = settle(settings, self.announced())
        weights = self.first_weights(settings, order.pretrained_detector)
        with self.lock:
            self.check_idle()
            run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
            folder = self.config.runs / run
            try:
                write_plan(folder, plan_of(run, settings, self.config.releases), weights)
            except NotWritten as error:
                raise Unavailable(str(error)) from None
            EventLog(folder).append("submitted", run=run, rounds=settings.federation.rounds)
            if notes:
                EventLog(folder).append("images", notes=notes)
        if settings.is_resolved:
            self.hand_over(folder)
        else:
            arguments = (folder, settings, order.pretrained_detector)
            threading.Thread(target=self.prepare, args=arguments, name=f"prepare-{run}", daemon=True).start()
        return run

    def announced(self) -> list[AnnouncedWorker]:
        """The workers that announced themselves; none where Flower's server does not respond."""
        with suppress(EngineError):
            return self.engine.workers()
        return []

    def prepare(self, folder: Path, settings: Settings, pretrained_detector: bool) -> None:
        """Choose the rules for pixels by the workers' images, and hand the run to Flower."""
        events, federation = EventLog(folder), settings.federation

        def waiting(connected: int) -> None:
            events.append("waiting", connected=connected, needed=federation.min_workers)

        def ended() -> bool:
            return events.final() is not None

        try:
            workers = wait_for_images(self.announced, federation.min_workers, federation.wait_seconds, waiting, ended)
            settings, notes = settle(settings, workers)
            weights = self.first_weights(settings, pretrained_detector)
            write_plan(folder, plan_of(folder.name, settings, self.config.releases), weights)
            if notes:
                events.append("images", notes=notes)
            self.hand_over(folder)
        except Unavailable as error:  # the event log has it too
            log.warning("run %s: %s", folder.name, error)
        except (Refused, NotWritten, ValueError, OSError) as error:
            if not ended():
                events.append("failed", reason=str(error), kind=type(error).__name__)

    def resume(self, run: str) -> None:
        """Resume a run that failed or was stopped, after its last good round."""
        with self.lock:
            folder = self.folder(run)
            self.check_resumable(folder)
            try:
                plan, initial = read_plan(folder)
            except PlanError as error:
                raise Refused(f"the run {run!r} cannot be resumed: {error}") from None
            if not from_mapping(plan.settings).is_resolved:
                raise Refused(f"the run {run!r} ended before its workers' images were known; start a new run")
            number, skipped = last_good(folder, shared(plan, initial))
            events = EventLog(folder)
            try:
                events.mend()
                # A reader that follows the run since before its failure must not query Flower about that failure.
                forget_run_id(folder)
                events.append(RESUMED, run=run, round=number, rounds=plan.federation.rounds, skipped=skipped)
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
        if EventLog(folder).is_held() or folder in self.submitting:
            raise Busy(f"the process of the run {folder.name!r} is just ending; ask again in some seconds", 5)

    def hand_over(self, folder: Path) -> None:
        """Submit a run to Flower and follow it, unless it was stopped or is being submitted."""
        with self.lock:
            if EventLog(folder).final() is not None or folder in self.submitting:
                return
            self.submitting.add(folder)
        try:
            self.submit(folder)
        finally:
            self.submitting.discard(folder)

    def submit(self, folder: Path) -> None:
        """Submit a run to Flower and follow it; where it was stopped meanwhile, stop it there too."""
        events = EventLog(folder)
        try:
            self.engine.submit(folder)
        except EngineError as error:
            if events.final() is None:
                events.append("failed", reason=str(error), kind="EngineError")
            raise Unavailable(f"Flower did not take the run: {error}") from None
        if events.final() is None:
            self.watch(folder)
        else:
            self.stop_at_flower(folder)

    def settings_of(self, order: RunOrder) -> Settings:
        """The server's settings, overridden by the run's."""
        labels = {} if order.labels is None else {"labels": order.labels}
        settings = from_mapping(merge(to_mapping(self.config.settings), with_preset({**order.settings, **labels})))
        if order.pretrained_detector:
            settings = replace(settings, denoiser=replace(settings.denoiser, steps=0))
        return settings

    def first_weights(self, settings: Settings, pretrained_detector: bool) -> Weights:
        """Initial weights of a run: new ones, or the shipped release's denoiser with a new classifier."""
        weights = build(settings.networks).weights()
        if pretrained_detector:
            shipped = shipped_for(settings.labels)
            taken = {n: array.astype("float32") for n, array in shipped.weights.items() if n.startswith("denoiser.")}
            if {n: array.shape for n, array in taken.items()} != {n: weights[n].shape for n in weights if n in taken}:
                raise Refused(
                    "the shipped detector has another shape than these settings; leave models.denoiser as it is"
                )
            weights.update(taken)
        return weights

    def list(self) -> list[RunSummary]:
        """All runs, newest first."""
        folders = sorted((path for path in self.config.runs.glob("*") if path.is_dir()), reverse=True)
        return [summary for folder in folders if (summary := summarise(folder)) is not None]

    def event_log(self, run: str) -> Sequence[dict[str, Any]]:
        """The events of a run so far."""
        return EventLog(self.folder(run)).read()

    def events(self, run: str) -> Generator[dict[str, Any] | None, None, None]:
        """All events of a run, then new ones as they come; None once a second while there is none."""
        yield from follow_events(EventLog(self.folder(run)).path, silence=1.0, poll=0.2)

    def stop(self, run: str) -> None:
        """Stop a run. The weights of its last round stay in its folder."""
        folder = self.folder(run)
        events = EventLog(folder)
        final = events.final()
        # A run whose process lives on, as Flower did not respond when it was stopped, is stopped once more.
        if final is not None and not (final["event"] == "stopped" and events.is_held()):
            return
        if final is None and not has_run_id(folder):
            events.append("stopped", reason="the run was stopped before it began")
        if has_run_id(folder):  # perhaps only now: Flower may have taken it meanwhile
            self.stop_at_flower(folder)

    def stop_at_flower(self, folder: Path) -> None:
        """Stop a run that Flower has taken. Raises Unavailable."""
        try:
            self.engine.stop_run(folder)
        except EngineError as error:
            raise Unavailable(f"Flower did not stop the run: {error}; stop it once more") from None

    def folder(self, run: str) -> Path:
        """A run's folder. Raises UnknownRun."""
        if run not in [path.name for path in self.config.runs.glob("*")]:
            raise UnknownRun(f"there is no run {run!r} at this server")
        return self.config.runs / run

    def resume_watching(self) -> None:
        """Follow the runs that had not ended when the node did; those that ended with it get their final event."""
        for run in self.list():
            folder = self.config.runs / run.id
            if run.state == "running" and has_run_id(folder):
                self.watch(folder)
            elif run.state == "running":
                reason = "the server was ended before Flower had taken the run; resume it, or start a new one"
                EventLog(folder).append("failed", reason=reason, kind="EngineError")

    def watch(self, folder: Path) -> None:
        """Follow a run to its end in a thread, so that a failure is noticed and its release becomes the current one."""
        threading.Thread(target=self.follow, args=(folder,), name=f"watch-{folder.name}", daemon=True).start()

    def follow(self, folder: Path) -> None:
        """Follow a run to its end."""
        *_, event = self.engine.follow(folder)
        if event["event"] == "finished":
            set_current(self.config.releases, event["release"])
        log.info("run %s %s %s", folder.name, event["event"], event.get("reason", ""))


def summarise(folder: Path) -> RunSummary | None:
    """State of a run, from its event log; None for a folder without one. A wrong log is that of a failed run."""
    log = EventLog(folder)
    events = log.read()
    if not events:
        return None
    try:
        return summary_of(folder.name, events)
    except (KeyError, TypeError, ValueError) as error:
        began = datetime.fromtimestamp(log.path.stat().st_mtime, UTC)
        reason = f"its event log is damaged ({error!r:.100})"
        empty: dict[str, Any] = dict.fromkeys(("release", "workers", "expected"))
        return RunSummary(id=folder.name, state="failed", round=0, rounds=0, started=began, reason=reason, **empty)


def summary_of(run: str, events: list[dict[str, Any]]) -> RunSummary:
    """State of a run, from its events. Raises KeyError, TypeError or ValueError where they are no server's."""
    final = next((event for event in last_attempt(events) if event["event"] in FINAL), {})
    return RunSummary(
        id=run,
        state=final.get("event", "running"),
        round=next((int(event["round"]) for event in reversed(events) if event["event"] in ("round", RESUMED)), 0),
        rounds=max((int(event["rounds"]) for event in events if "rounds" in event), default=0),
        started=datetime.fromisoformat(next((event["time"] for event in events if event.get("time")), "")),
        release=final.get("release"),
        reason=final.get("reason"),
        workers=final.get("workers"),
        expected=final.get("expected"),
    )


def shipped_for(labels: Sequence[str]) -> Release:
    """The shipped release with these labels, in this order.

    Raises:
        Refused: when there is none.
    """
    releases = [load_release(folder) for folder in dict.fromkeys(SHIPPED.values())]
    for release in releases:
        if release.card["settings"]["labels"] == list(labels):
            return release
    known = " or ".join(", ".join(release.card["settings"]["labels"]) for release in releases)
    raise Refused(f"a shipped detector knows the labels {known}; ask for those, or train one")
