"""A small node: it trains and predicts in this process."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

from fedlmd.inference import Predictor
from fedlmd.node.drift import PersistentDriftWatch
from fedlmd.progress import Progress, Result
from fedlmd.release import VERDICT, list_releases, load_release, save_release
from fedlmd.release.shipped import PRETRAINED
from fedlmd.service.contract import Busy, Unavailable, UnknownRelease, UnknownRun
from fedlmd.service.participants import ConnectionBody, DataBody, WorkerBody
from fedlmd.service.schema import ReleaseSummary, RunSummary
from fedlmd.settings import from_mapping
from fedlmd.worker.alone import train_alone
from fedlmd.worker.images import WorkerConfig

TINY = {
    "labels": ["0", "1", "2"],
    "data": {"held_back": 0.5},
    "models": {"classifier": [8, 16, 16], "denoiser": [8, 16]},
    "classifier": {"steps": 60, "batch_size": 32},
    "denoiser": {"steps": 20, "batch_size": 16},
    "detector": {"lmd": {"reconstructions": 2, "inpainting": {"steps": 2}}},
    "calibration": {"images": 60},
}


class TrainingHost:
    """Implements ``Host`` for one folder of images, and ``Releases`` for one folder of releases."""

    def __init__(self, home, images, runs=None, pretrained=None):
        self.name, self.role = ("worker1", "worker") if runs is None else ("server", "server")
        self.home, self.runs, self.pretrained = home, runs, pretrained
        self.releases = self
        self.settings = from_mapping({**TINY, "data": {**TINY["data"], "source": str(images)}})
        self.current = self.refused = None
        self.listed = []
        self.working = threading.Lock()
        self.predictors = {}
        self.watch = PersistentDriftWatch(home.parent / f"{home.name}-drift.json", every=0.0)

    @property
    def data(self):
        labels = {"0": {"train": 60, "eval": 15}}
        return (
            None if self.role == "server" else DataBody(state="usable", problem=None, labels=labels, notes=["a note"])
        )

    @property
    def connection(self):
        if self.role == "server":
            return None
        state = "connected" if self.refused is None else "refused"
        return ConnectionBody(server="server:9092", state=state, reason=self.refused, since=datetime.now(UTC))

    def workers(self):
        if self.listed is None and self.role == "server":
            raise Unavailable("Flower's server does not respond")
        return None if self.role == "worker" else [WorkerBody.model_validate(worker) for worker in self.listed]

    @property
    def progress(self):
        return Progress("classifier", 1, 2) if self.working.locked() else None

    def predictor(self, release):
        if release is None and self.current is None:
            raise Unavailable("this node has no release yet; train first, or ask for release=pretrained")
        wanted = {None: self.current, PRETRAINED: self.pretrained}.get(release, release)
        if wanted not in [path.name for path in list_releases(self.home)]:
            raise UnknownRelease(f"there is no release {release!r}; GET /v1/releases lists them")
        if wanted not in self.predictors:
            self.predictors[wanted] = Predictor(load_release(self.home / wanted))
        return self.predictors[wanted]

    def list(self):
        return [self.summary(path.name) for path in list_releases(self.home)]

    def summary(self, release):
        card = self.predictor(release).release.card
        return ReleaseSummary(
            id=release,
            current=release == self.current,
            pretrained=release == self.pretrained,
            labels=card["settings"]["labels"],
            metrics=card["metrics"],
            created=datetime.now(UTC),
            size=(self.home / release / "weights.safetensors").stat().st_size,
        )

    def use(self, release):
        self.current = self.predictor(release).release.id

    @property
    def watched(self):
        return self.watch.look(self.current)

    def observe(self, prediction, calibrated_on, image):
        if prediction.release == self.current:
            self.watch.observe(prediction.release, calibrated_on, prediction.p_value, image)

    def nearest(self, predictor, image):
        return []

    def drift(self):
        return self.watch.report(*self.watchable())

    def reset_drift(self):
        return self.watch.reset(*self.watchable())

    def watchable(self):
        predictor = self.predictor(None)
        return predictor.release.id, predictor.references[VERDICT].count

    def train(self, order):
        if not self.working.acquire(blocking=False):
            raise Busy("this node trains already", retry_after=7)
        return self.training(order)

    def training(self, order):
        start = time.monotonic()
        try:
            settings = replace(self.settings, labels=tuple(order.labels_list), seed=order.seed or 0)
            worker = WorkerConfig(self.name, settings.data)
            sources = {"training": order.training, "evaluation": order.evaluation}
            result = yield from train_alone(worker, settings, **sources)
            folder = save_release(self.home, result.metrics["card"], result.weights)
            self.current = folder.name
            figures = {name: result.metrics[name] for name in ("accuracy", "loss", "images")}
            return Result({**figures, "seconds": time.monotonic() - start, "release": folder.name})
        finally:
            self.working.release()


class ScriptedRuns:
    """Implements ``Runs``: a test writes the events of a run."""

    def __init__(self):
        self.orders, self.logs, self.states = [], {}, {}

    def start(self, order):
        if "running" in self.states.values():
            raise Busy("another run is going on")
        from_mapping(order.settings)
        run = f"run-{len(self.orders) + 1}"
        self.orders.append(order)
        self.states[run] = "running"
        self.logs[run] = [{"event": "started", "run": run}]
        return run

    def resume(self, run):
        if run not in self.states:
            raise UnknownRun(f"there is no run {run!r}")
        if "running" in self.states.values():
            raise Busy("another run is going on")
        self.add(run, "resumed", round=1, rounds=3, skipped=["round-002.safetensors is missing"])
        self.states[run] = "running"

    def add(self, run, event, **fields):
        if event in ("finished", "failed", "stopped"):
            self.states[run] = event
        self.logs[run].append({"event": event, **fields})

    def list(self):
        fields = {"round": 1, "rounds": 3, "started": datetime.now(UTC), "release": None, "reason": None}
        return [RunSummary(id=run, state=state, **fields) for run, state in reversed(self.states.items())]

    def event_log(self, run):
        return self.logs[run]

    def events(self, run):
        if run not in self.logs:
            raise UnknownRun(f"there is no run {run!r}")
        position = 0
        while True:
            if position == len(self.logs[run]):
                time.sleep(0.02)
                yield None
                continue
            event = self.logs[run][position]
            position += 1
            yield event
            rest = self.logs[run][position:]
            if event["event"] in ("finished", "failed", "stopped") and not rest:
                return

    def stop(self, run):
        if run not in self.states:
            raise UnknownRun(f"there is no run {run!r}")
        if self.states[run] == "running":
            self.add(run, "stopped", reason="the run was stopped")
