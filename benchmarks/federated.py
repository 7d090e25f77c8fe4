"""Federated runs in this process, each stored in a folder, so that a benchmark that was stopped continues."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from safetensors.numpy import load_file

from benchmarks.local_grid import LocalGrid
from benchmarks.storage import load_json, save_json
from fedlmd.data import LabelledImages, Split, load, some, survey
from fedlmd.federation.actions import DENOISER, TRAIN
from fedlmd.federation.config import ONE_SHOT
from fedlmd.federation.events import EventLog
from fedlmd.federation.plan import save_weights, write_plan
from fedlmd.federation.server.app import ServerRun
from fedlmd.federation.server.checkpoints import Checkpoint, first_checkpoint
from fedlmd.federation.server.merge import shared
from fedlmd.federation.trainer.server import Handler
from fedlmd.models import build
from fedlmd.progress import Progress, Result, Work
from fedlmd.release import Weights
from fedlmd.settings import Settings, plan_of
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker

EVALUATED = 2000
"""Images of a source that all workers together evaluate a round's weights on."""

T = TypeVar("T")

RELEASES, LAST = "releases", "trained.safetensors"


def trained(settings: Settings, folder: Path, byzantine: int = 0) -> Generator[Progress, None, Weights]:
    """The shared weights after a run's rounds, without a release; stored in the folder.

    Args:
        settings: of the run, and of the division of its images among workers.
        folder: the run's.
        byzantine: so many of the last workers send the reverse of their update.
    """
    path = folder / LAST
    if not path.exists():
        run = prepared(settings, build(settings.networks).weights(), folder, folder, byzantine)
        weights, _ = yield from followed(lambda: run.server_run.train(run.start), run.server_run, run.grid)
        save_weights(path, weights)
    return load_file(path)


def release_of(
    settings: Settings, folder: Path, denoisers: Path, first: Mapping[str, Any] | None = None, byzantine: int = 0
) -> Generator[Progress, None, Path]:
    """The folder of the release that a run ends with; stored.

    Args:
        settings: of the run, and of the division of its images among workers.
        folder: the run's.
        denoisers: folder of the denoisers that workers trained by themselves, for other runs that merge the same ones.
        first: weights to start from in place of the settings' initial ones.
        byzantine: so many of the last workers send the reverse of their update.
    """
    ended = EventLog(folder).final()
    if ended is None or ended["event"] != "finished":
        whole = {**build(settings.networks).weights(), **(first or {})}
        run = prepared(settings, whole, folder, denoisers, byzantine)
        yield from followed(lambda: run.server_run.execute(run.start, whole), run.server_run, run.grid)
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
    """A run in this process: its server side, where that starts, and its grid."""

    server_run: ServerRun
    start: Checkpoint
    grid: LocalGrid


def prepared(settings: Settings, initial: Weights, folder: Path, denoisers: Path, byzantine: int) -> Run:
    """A run from its beginning, whatever an earlier one left in its folder."""
    shutil.rmtree(folder, ignore_errors=True)
    settings, _ = settings.resolved([survey(settings.data.source, config=settings.data).facts])
    plan = plan_of(folder.name, settings, folder / RELEASES)
    write_plan(folder, plan, initial)
    handlers, count = {}, settings.data.partition.workers
    for number in range(count):
        releases = folder / "workers" / str(number)
        store = folder.parent / "encoded.sqlite"
        config = WorkerConfig(f"worker-{number}", settings.data, number, releases=releases, store=store, load=load_few)
        handler = storing_denoiser(Worker(config).handle, denoisers / f"denoiser-{number}")
        handlers[config.name] = reversing(handler) if number >= count - byzantine else handler
    grid = LocalGrid(handlers)
    server_run = ServerRun(grid, plan, folder, EventLog(folder))
    return Run(server_run, first_checkpoint(folder, shared(plan, initial)), grid)


def load_few(source: str, split: Split, **form: Any) -> LabelledImages:  # noqa: ANN401 - as ``load`` takes them
    """Images as ``load`` gives them, but few to evaluate on: a benchmark evaluates its releases itself."""
    images = load(source, split, **form)
    return images if split == "train" else some(images, EVALUATED, 0)


def storing_denoiser(handler: Handler, path: Path) -> Handler:
    """A handler that trains a worker's own denoiser once for all runs that merge the same ones.

    Args:
        handler: the worker's.
        path: of the stored denoiser, without what depends on the run and without suffix.
    """

    def handle(action: str, config: dict[str, Any], weights: Weights) -> Work:
        federation = config["settings"]["federation"] if action == DENOISER else {}
        if federation.get("merge") not in ONE_SHOT:
            return (yield from handler(action, config, weights))
        file = path.with_name(f"{path.name}-{federation['initial']}.safetensors")
        metrics = file.with_suffix(".json")
        if not file.exists():
            result = yield from handler(action, config, weights)
            save_json(metrics, result.metrics)
            save_weights(file, result.weights)
        return Result(load_json(metrics), load_file(file))

    return handle


def reversing(handler: Handler, factor: float = 3.0) -> Handler:
    """A Byzantine handler: it sends the reverse of its update, so many times as large."""

    def handle(action: str, config: dict[str, Any], weights: Weights) -> Work:
        result = yield from handler(action, config, weights)
        if action != TRAIN:
            return result
        reverse = {name: weights[name] - factor * (array - weights[name]) for name, array in result.weights.items()}
        return Result(result.metrics, reverse)

    return handle


def followed(work: Callable[[], T], server_run: ServerRun, grid: LocalGrid) -> Generator[Progress, None, T]:
    """Do the server's work in a thread, and report its rounds; returns or raises what the work does.

    Closed early it stops the work and waits until it has ended.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with ThreadPoolExecutor(1, thread_name_prefix=server_run.plan.run) as pool:
        future, done = pool.submit(work), 0
        try:
            while not wait([future], 0.5).done:
                rounds = [event for event in server_run.events.read() if event["event"] == "round"]
                if len(rounds) > done:
                    done = len(rounds)
                    losses = {name: value for name, value in rounds[-1]["metrics"].items() if name.endswith("loss")}
                    yield Progress(server_run.plan.run, done, server_run.federation.rounds, losses)
        finally:
            # Nothing may write to the run's folder after this.
            grid.stopped.set()
    return future.result()
