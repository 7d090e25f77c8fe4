"""How well the verdict and the baselines find unknown images, and what each of them costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.baselines.factory import BaselineConfig, MeasuredDetector, measured_detectors
from benchmarks.cost import CostConfig, verdict_cost
from benchmarks.record import record
from benchmarks.results import PREDICTION, described, figures_of
from benchmarks.scores import Scores, batch_count, key_of, stored_scores
from benchmarks.storage import Steps, prefixed
from benchmarks.tasks import TASKS, Task, available, images_of
from fedlmd import settings
from fedlmd.data import LabelledImages, load, some
from fedlmd.inference import Predictor
from fedlmd.models import Networks
from fedlmd.progress import Progress, Result
from fedlmd.release import SHIPPED, VERDICT, Release, ReleaseError, list_releases, load_release, save_release
from fedlmd.settings import Settings, SettingsError
from fedlmd.worker.alone import certify, resolved, train_alone
from fedlmd.worker.images import WorkerConfig

QUICK = "01234"
"""The one task of a quick run, whose release is shipped."""

# Of a quick run: images of each kind, and the most expensive detector that takes part, in evaluations per image.
QUICK_IMAGES, QUICK_EVALUATIONS = 100, 100


@dataclass(frozen=True)
class DetectionBench:
    """What is measured, and with which releases.

    Args:
        settings: of the run that trains a release; its labels are replaced by the task's.
        data: .npz files of other data sets by name ("fashion", "notmnist", "usps"); tasks without theirs are left out.
        releases: folders of releases that need not be trained, by the name that a task has for its release.
        sample: at most so many images of each kind are scored; None takes all.
        in_domain: at most so many held-back images are given to detectors that are fitted.
        tasks: names of the tasks; empty takes all.
        cost: how costs are measured.
        baselines: settings of the published detectors on the denoiser.
        quick: measure only the task of the shipped release, on few images, without the detectors that take hours.
        load: loads the images that releases are trained and calibrated on, as ``fedlmd.data.load`` does.
    """

    settings: Settings = field(default_factory=Settings)
    data: Mapping[str, Path] = field(default_factory=dict)
    releases: Mapping[str, Path] = field(default_factory=dict)
    sample: int | None = None
    in_domain: int = 2000
    tasks: tuple[str, ...] = ()
    cost: CostConfig = field(default_factory=CostConfig)
    baselines: BaselineConfig = field(default_factory=BaselineConfig)
    quick: bool = False
    load: Callable[..., LabelledImages] = field(default=load, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse unknown names and empty samples."""
        if unknown := [name for name in self.tasks if name not in [task.name for task in TASKS]]:
            raise ValueError(f"there is no task {unknown[0]!r}; there are {', '.join(task.name for task in TASKS)}")
        needed = sorted({task.release for task in TASKS})
        if unknown := sorted(set(self.releases) - set(needed)):
            raise ValueError(f"no task has a release {unknown[0]!r}; there are {', '.join(needed)}")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"sample is {self.sample}; at least 1 image of each kind is needed")

    @property
    def scope(self) -> DetectionBench:
        """The same, cut down where it is to be quick."""
        if not self.quick:
            return self
        sample = min(self.sample or QUICK_IMAGES, QUICK_IMAGES)
        shipped = {"digits-0-4": SHIPPED["digits-0-4"], **self.releases}
        in_domain = min(self.in_domain, QUICK_IMAGES)
        return replace(self, sample=sample, in_domain=in_domain, tasks=(QUICK,), releases=shipped)


@final
class PredictedClass:
    """The classifier's class index of each image, in the form of a score, so that it is stored like one."""

    def __init__(self, networks: Networks) -> None:
        self.networks, self.config = networks, PREDICTION

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Class indices (B,)."""
        logits: Tensor = self.networks.classifier(images)
        return logits.argmax(1).float()


def measure(config: DetectionBench, output: Path) -> Steps:
    """Train or load the releases, score every task with every detector; returns the result as JSON has it.

    What is done is stored under ``output``: stopped at any time, a later call with the same configuration continues,
    and has lost at most one training, or one detector on one task.

    Args:
        config: what to measure.
        output: ``releases/NAME/ID`` and ``scores/TASK/DETECTOR.npz`` are stored in it.

    Raises:
        DataError, ReleaseError, ValueError: when data, a release or a name is not what it must be.
    """
    scope = config.scope
    tasks, notes = available(scope.data, [task for task in TASKS if not scope.tasks or task.name in scope.tasks])
    if not tasks:
        raise ValueError(f"there is nothing to measure: {'; '.join(notes)}")
    results: dict[str, Any] = {}
    predictors: dict[str, Predictor] = {}
    sizes: list[float] = []
    for task in tasks:
        if task.release not in predictors:
            release = yield from release_of(task, scope, output)
            predictors = {task.release: Predictor(release)}  # tasks of one release are consecutive
            sizes.append(mebibytes(release))
        results[task.name] = yield from task_results(task, predictors[task.release], scope, output)
    cost = yield from costs(tasks[0], scope, output)
    figures = {"release_mib": max(sizes), **figures_of(results), **{name: cost[name] for name in COST_FIGURES}}
    return record(figures, command_of(config), tasks=results, cost=cost, notes=notes)


def command_of(config: DetectionBench) -> str:
    """The command that measures this, without paths of files."""
    options = ["--settings FILE"] * (config.settings != Settings())
    options += [f"--task {name}" for name in config.tasks]
    for name, folder in config.releases.items():
        options.append(f"--release {name}={'pretrained' if folder == SHIPPED.get(name) else 'FOLDER'}")
    options += [f"--data {name}=FILE" for name in config.data]
    sample = [] if config.sample is None else [f"--images {config.sample}"]
    return " ".join(["python -m benchmarks detection", *["--quick"] * config.quick, *options, *sample])


COST_FIGURES = ("gflop_per_verdict", "ms_per_verdict_p50", "cost_ratio_lmd_paper", "sgemm_fraction")


def costs(task: Task, config: DetectionBench, output: Path) -> Steps:
    """What a verdict costs with a task's release, on that task's images."""
    yield Progress("cost", 0, 1)
    predictor = Predictor((yield from release_of(task, config, output)))
    known, unknown = (some(images, config.cost.images).images() for images in task_images(task, predictor, config))
    cost = verdict_cost(predictor, known, unknown, config.cost)
    yield Progress("cost", 1, 1)
    return cost


def mebibytes(release: Release) -> float:
    """Size of a release on the disk in MiB, but for the weights' names."""
    card = len(json.dumps(release.card, indent=2, ensure_ascii=False).encode())
    return (card + sum(array.nbytes for array in release.weights.values())) / 2**20


def release_of(task: Task, config: DetectionBench, output: Path) -> Generator[Progress, None, Release]:
    """The release of a task: given, stored before, calibrated anew, or trained.

    Weights that the same training made are used again when only the detector's or the calibration's settings differ.
    """
    if task.release in config.releases:
        return load_release(config.releases[task.release])
    folder, worker = output / "releases" / task.release, WorkerConfig("bench", config.settings.data, load=config.load)
    wanted = resolved(worker, config.settings.with_labels(task.labels))
    stored = list(loadable(folder))
    for made_with, release in stored:
        if made_with == wanted:
            return release
    old = next((release for made_with, release in stored if trained_alike(made_with, wanted)), None)
    if old is None:
        result = yield from prefixed(task.release, train_alone(worker, wanted))
        return load_release(save_release(folder, result.metrics["card"], result.weights))
    result = yield from prefixed(task.release, certify(worker, wanted, old.weights))
    return load_release(save_release(folder, recalibrated(old, wanted, result), old.weights))


def loadable(folder: Path) -> Iterator[tuple[Settings, Release]]:
    """The releases of a folder that this version reads, newest first, each with its settings."""
    for path in list_releases(folder):
        try:
            release = load_release(path)
            yield settings.from_mapping(release.card["settings"]), release
        except (ReleaseError, SettingsError):
            continue


def trained_alike(a: Settings, b: Settings) -> bool:
    """Whether two runs train the same weights at one worker."""
    return replace(a, detector=b.detector, calibration=b.calibration, federation=b.federation) == b


def recalibrated(old: Release, wanted: Settings, result: Result) -> dict[str, Any]:
    """The card of a release whose weights stay and whose thresholds are new."""
    return {**old.card, "settings": settings.to_mapping(wanted), **result.metrics, "calibrated_from": old.id}


def task_images(task: Task, predictor: Predictor, config: DetectionBench) -> tuple[LabelledImages, LabelledImages]:
    """All images of a task in the form that a release takes."""
    settings = predictor.settings
    return images_of(task, config.data, labels=settings.labels, rules=settings.pixel_rules)


def held_back(predictor: Predictor, most: int) -> LabelledImages:
    """Images that a release was not trained on, of the worker that its settings describe."""
    data = predictor.settings.data
    return some(WorkerConfig("bench", data).images(predictor.settings).held_back, most)


def taking_part(task: Task, predictor: Predictor, config: DetectionBench) -> dict[str, MeasuredDetector]:
    """The detectors of a task, each with the number of images that it scores."""
    every = measured_detectors(predictor, held_back(predictor, config.in_domain), config.baselines)
    every[PREDICTION] = MeasuredDetector(PredictedClass(predictor.networks), 0, every[VERDICT].sample)
    if task.same_classes:
        # No image is unknown: only the verdict and the predicted class are measured.
        every = {name: every[name] for name in (VERDICT, PREDICTION)}
    chosen = {}
    for name, measured in every.items():
        elsewhere = measured.tasks is not None and task.name not in measured.tasks
        if elsewhere or (config.quick and measured.evaluations > QUICK_EVALUATIONS):
            continue
        limits = [limit for limit in (measured.sample, config.sample) if limit is not None]
        chosen[name] = replace(measured, sample=min(limits, default=None))
    return chosen


def scores_file(output: Path, task: str, detector: str) -> Path:
    """Where the scores of a detector on a task are stored."""
    return output / "scores" / task / f"{detector}.npz"


def task_results(task: Task, predictor: Predictor, config: DetectionBench, output: Path) -> Steps:
    """Score a task with all detectors whose scores are not stored yet; returns the task's part of the result."""
    images = task_images(task, predictor, config)
    scores: dict[str, Scores] = {}
    every = taking_part(task, predictor, config)
    samples = {name: sampled(images, measured.sample) for name, measured in every.items()}
    total, done = sum(batch_count(every[name], *sample) for name, sample in samples.items()), 0
    for name, measured in every.items():
        path, key = scores_file(output, task.name, name), key_of(predictor.release.id, measured, *samples[name])
        progress = Progress(task.name, done, total)
        scores[name] = yield from stored_scores(path, key, measured, predictor.networks, samples[name], progress)
        done += batch_count(measured, *samples[name])
    return described(task, predictor, scores, *samples[PREDICTION])


def sampled(images: tuple[LabelledImages, LabelledImages], most: int | None) -> tuple[LabelledImages, LabelledImages]:
    """At most so many images of each kind, a fixed draw; all of them without a limit."""
    return images if most is None else (some(images[0], most), some(images[1], most))
