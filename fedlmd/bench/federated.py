"""Federated runs in this process, each kept in a folder, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.numpy import load_file

from fedlmd.artifacts import Weights
from fedlmd.data import LabelledImages, Split, load, some
from fedlmd.federation.checkpoints import Checkpoint, first_checkpoint
from fedlmd.federation.events import EventLog
from fedlmd.federation.local import LocalGrid
from fedlmd.federation.merge import ONE_SHOT, shared
from fedlmd.federation.messages import DENOISER
from fedlmd.federation.plan import save_weights, write_plan
from fedlmd.federation.server_app import Conductor
from fedlmd.federation.trainer import Handler
from fedlmd.learner import Learner
from fedlmd.networks import build
from fedlmd.node.runs import plan_of
from fedlmd.progress import Progress, Result
from fedlmd.settings import Settings
from fedlmd.site import Site

__all__ = ["bytes_up", "release_of", "trained"]

Steps = Generator[Progress, None, Any]

EVALUATED = 2000
"""Images of a source that all sites together judge a round's weights on."""

RELEASES, LAST = "releases", "trained.safetensors"


def trained(settings: Settings, folder: Path, liars: int = 0) -> Generator[Progress, None, Weights]:
    """The shared weights that a run's rounds come to, without a release; kept in the folder.

    Args:
        settings: of the run, and of the division of its images among sites.
        folder: the run's.
        liars: so many of the last sites send the reverse of what they learnt.
    """
    path = folder / LAST
    if not path.exists():
        run = prepared(settings, build(settings).weights(), folder, folder, liars)
        found: list[Weights] = []
        yield from followed(lambda: found.append(run.conductor.train(run.start)[0]), run.conductor, run.grid)
        save_weights(path, found[0])
    return load_file(path)


def release_of(
    settings: Settings, folder: Path, sites: Path, first: Mapping[str, Any] | None = None, liars: int = 0
) -> Generator[Progress, None, Path]:
    """The folder of the release that a run ends with; kept.

    Args:
        settings: of the run, and of the division of its images among sites.
        folder: the run's.
        sites: where the denoisers are kept that sites trained by themselves, for other runs that merge the same ones.
        first: weights to start from in place of the settings' initial ones.
        liars: so many of the last sites send the reverse of what they learnt.
    """
    ended = EventLog(folder).final()
    if ended is None or ended["event"] != "finished":
        whole = {**build(settings).weights(), **(first or {})}
        run = prepared(settings, whole, folder, sites, liars)
        yield from followed(lambda: run.conductor.conduct(run.start, whole), run.conductor, run.grid)
        ended = EventLog(folder).read()[-1]
    return folder / RELEASES / str(ended["release"])


def bytes_up(folder: Path) -> float:
    """Bytes of updates that one worker sent in a run, in the mean over the workers.

    Those of all rounds, and of the denoiser where it is sent once; not what every run needs for its calibration.
    """
    total = 0.0
    for event in EventLog(folder).read():
        if event["event"] == "round" and event["workers"]:
            total += statistics.mean(worker["metrics"]["bytes-up"] for worker in event["workers"])
        elif event["event"] == "calibrating" and event["step"] == DENOISER:
            total += statistics.mean(event["bytes-up"])
    return total


class Run(NamedTuple):
    """A run in this process: who conducts it, from where, and through which grid."""

    conductor: Conductor
    start: Checkpoint
    grid: LocalGrid


def prepared(settings: Settings, initial: Weights, folder: Path, sites: Path, liars: int) -> Run:
    """A run from its beginning, whatever an earlier one left in its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    plan = plan_of(folder.name, settings, folder / RELEASES)
    write_plan(folder, plan, initial)
    handlers, count = {}, settings.data.partition.workers
    for number in range(count):
        site = Site(f"site-{number}", settings.data, number, releases=folder / "sites" / str(number), load=few)
        handler = remembering(Learner(site).handle, sites / f"denoiser-{number}")
        handlers[site.name] = reversing(handler) if number >= count - liars else handler
    grid = LocalGrid(handlers)
    conductor = Conductor(grid, plan, folder, EventLog(folder))
    return Run(conductor, first_checkpoint(folder, shared(plan.merge, initial)), grid)


def few(source: str, split: Split, **form: Any) -> LabelledImages:  # noqa: ANN401 - as ``load`` takes them
    """Images as ``load`` gives them, but few to evaluate on: a benchmark judges its releases itself."""
    images = load(source, split, **form)
    return images if split == "train" else some(images, EVALUATED, 0)


def remembering(handler: Handler, path: Path) -> Handler:
    """A handler that trains a site's own denoiser once for all runs that merge the same ones."""

    def handle(action: str, config: dict[str, Any], weights: Weights) -> Iterator[Progress | Result]:
        federation = config["settings"]["federation"] if action == "denoiser" else {}
        if federation.get("merge") not in ONE_SHOT:
            yield from handler(action, config, weights)
            return
        file = path.with_name(f"{path.name}-{federation['initial']}.safetensors")
        figures = file.with_suffix(".json")
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            for step in handler(action, config, weights):
                if isinstance(step, Result):
                    figures.write_text(json.dumps(step.metrics), encoding="utf-8")
                    save_weights(file, step.weights)
                else:
                    yield step
        yield Result(json.loads(figures.read_text(encoding="utf-8")), load_file(file))

    return handle


def reversing(handler: Handler, factor: float = 3.0) -> Handler:
    """A handler that lies: it sends the reverse of what it learnt, so many times as much, as if it were an update."""

    def handle(action: str, config: dict[str, Any], weights: Weights) -> Iterator[Progress | Result]:
        for step in handler(action, config, weights):
            if action == "train" and isinstance(step, Result):
                turned = {name: weights[name] - factor * (of - weights[name]) for name, of in step.weights.items()}
                yield Result(step.metrics, turned)
            else:
                yield step

    return handle


def followed(work: Callable[[], object], conductor: Conductor, grid: LocalGrid) -> Steps:
    """Do a conductor's work in a thread, and tell the rounds as they come; raises what the work raised.

    Closed early it stops the work and waits until it has.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    errors: list[Exception] = []

    def guarded() -> None:
        try:
            work()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=guarded, name=conductor.plan.run, daemon=True)
    thread.start()
    done = 0
    try:
        while thread.is_alive():
            thread.join(0.5)
            rounds = [event for event in conductor.events.read() if event["event"] == "round"]
            if len(rounds) > done:
                done = len(rounds)
                figures = {name: of for name, of in rounds[-1]["metrics"].items() if name.endswith("loss")}
                yield Progress(conductor.plan.run, done, conductor.plan.rounds, figures)
    finally:
        # Who does not wait for the end must find the run's folder left alone.
        grid.stopped.set()
        thread.join()
    if errors:
        raise errors[0]
