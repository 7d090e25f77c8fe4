"""A node in small: it really learns and answers, in this process."""

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

from fedlmd import artifacts
from fedlmd.answer import VERDICT, Answerer
from fedlmd.learner import Learner
from fedlmd.node.drift import KeptWatch
from fedlmd.progress import Progress, Result
from fedlmd.service import PRETRAINED, Busy, ReleaseSummary, RunSummary, Unavailable, UnknownRelease, UnknownRun
from fedlmd.settings import from_mapping
from fedlmd.site import Site

TINY = {
    "labels": ["0", "1", "2"],
    "data": {"held_back": 0.5},
    "models": {"classifier": [8, 16, 16], "denoiser": [8, 16]},
    "classifier": {"steps": 60, "batch_size": 32},
    "denoiser": {"steps": 20, "batch_size": 16},
    "detector": {"lmd": {"reconstructions": 2, "inpainting": {"steps": 2}}},
    "calibration": {"images": 60},
}


class LearningHost:
    """Implements ``Host`` for one folder of images and one folder of releases."""

    def __init__(self, home, images, runs=None, pretrained=None):
        self.name, self.role = ("worker1", "worker") if runs is None else ("server", "server")
        self.home, self.federated, self.pretrained = home, runs, pretrained
        self.settings = from_mapping({**TINY, "data": {**TINY["data"], "source": str(images)}})
        self.current = None
        self.working = threading.Lock()
        self.answerers = {}
        self.watch = KeptWatch(home.parent / f"{home.name}-drift.json", every=0.0)

    @property
    def progress(self):
        return Progress("classifier", 1, 2) if self.working.locked() else None

    def answerer(self, release):
        if release is None and self.current is None:
            raise Unavailable("this node has no release yet; train first, or ask for release=pretrained")
        wanted = {None: self.current, PRETRAINED: self.pretrained}.get(release, release)
        if wanted not in [path.name for path in artifacts.releases(self.home)]:
            raise UnknownRelease(f"there is no release {release!r}; GET /v1/releases lists them")
        if wanted not in self.answerers:
            self.answerers[wanted] = Answerer(artifacts.load(self.home / wanted))
        return self.answerers[wanted]

    def releases(self):
        return [self.summary(path.name) for path in artifacts.releases(self.home)]

    def summary(self, release):
        card = self.answerer(release).release.card
        return ReleaseSummary(
            id=release,
            current=release == self.current,
            pretrained=release == self.pretrained,
            labels=tuple(card["settings"]["labels"]),
            metrics=card["metrics"],
            created=datetime.now(UTC),
            size=(self.home / release / "weights.safetensors").stat().st_size,
        )

    def use(self, release):
        self.current = self.answerer(release).release.id

    @property
    def watched(self):
        return self.watch.look(self.current)

    def observe(self, answer, calibrated_on, image):
        if answer.release == self.current:
            self.watch.observe(answer.release, calibrated_on, answer.p_value, image)

    def drift(self):
        return self.watch.report(*self.watchable())

    def reset_drift(self):
        return self.watch.reset(*self.watchable())

    def watchable(self):
        answerer = self.answerer(None)
        return answerer.release.id, answerer.sketches[VERDICT].count

    def train(self, request):
        if not self.working.acquire(blocking=False):
            raise Busy("this node trains already", retry_after=7)
        return self.learn(request)

    def learn(self, request):
        start = time.monotonic()
        try:
            settings = replace(self.settings, labels=request.labels, seed=request.seed or 0)
            learner = Learner(Site(self.name, settings.data))
            for step in learner.learn_alone(settings, training=request.training, evaluation=request.evaluation):
                if not isinstance(step, Result):
                    yield step
                    continue
                folder = artifacts.save(self.home, step.metrics["card"], step.weights)
                self.current = folder.name
                figures = {name: step.metrics[name] for name in ("accuracy", "loss", "images")}
                yield Result({**figures, "seconds": time.monotonic() - start, "release": folder.name})
        finally:
            self.working.release()

    def runs(self):
        return self.federated


class ScriptedRuns:
    """Implements ``Runs``: what happens in a run is what a test says."""

    def __init__(self):
        self.requests, self.diaries, self.states = [], {}, {}

    def start(self, request):
        if "running" in self.states.values():
            raise Busy("another run is going on")
        from_mapping(request.settings)
        run = f"run-{len(self.requests) + 1}"
        self.requests.append(request)
        self.states[run] = "running"
        self.diaries[run] = [{"event": "started", "run": run}]
        return run

    def resume(self, run):
        if run not in self.states:
            raise UnknownRun(f"there is no run {run!r}")
        if "running" in self.states.values():
            raise Busy("another run is going on")
        self.say(run, "resumed", round=1, rounds=3, skipped=["round-002.safetensors is missing"])
        self.states[run] = "running"

    def say(self, run, event, **fields):
        if event in ("finished", "failed", "stopped"):
            self.states[run] = event
        self.diaries[run].append({"event": event, **fields})

    def list(self):
        return [RunSummary(run, state, 1, 3, datetime.now(UTC)) for run, state in reversed(self.states.items())]

    def diary(self, run):
        return self.diaries[run]

    def events(self, run):
        if run not in self.diaries:
            raise UnknownRun(f"there is no run {run!r}")
        position = 0
        while True:
            if position == len(self.diaries[run]):
                time.sleep(0.02)
                yield None
                continue
            event = self.diaries[run][position]
            position += 1
            yield event
            rest = self.diaries[run][position:]
            if event["event"] in ("finished", "failed", "stopped") and not rest:
                return

    def stop(self, run):
        if run not in self.states:
            raise UnknownRun(f"there is no run {run!r}")
        if self.states[run] == "running":
            self.say(run, "stopped", reason="the run was stopped")
