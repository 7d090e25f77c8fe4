"""How well the verdict and its rivals find unknown images, and what each of them costs."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd import artifacts, settings
from fedlmd.answer import VERDICT, Answerer
from fedlmd.artifacts import Release, ReleaseError
from fedlmd.bench.contenders import Contender, contenders
from fedlmd.bench.cost import CostConfig, verdict_cost
from fedlmd.bench.record import record
from fedlmd.bench.results import PREDICTION, described, figures_of
from fedlmd.bench.scores import Scores, batches_of, keep, kept, key_of, score
from fedlmd.bench.tasks import TASKS, Task, available, images_of
from fedlmd.data import LabelledImages, some
from fedlmd.learner import Learner
from fedlmd.networks import Networks
from fedlmd.node import SHIPPED
from fedlmd.progress import Progress, Result
from fedlmd.settings import Settings, SettingsError
from fedlmd.site import Site

__all__ = ["QUICK", "DetectionBench", "command_of", "measure", "release_of", "scores_file"]

QUICK = "01234"
"""The one task of a quick run, whose release is shipped."""

# Of a quick run: images of each kind, and the dearest detector that takes part, in evaluations per image.
QUICK_IMAGES, QUICK_EVALUATIONS = 100, 100

Steps = Generator[Progress, None, Any]


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
        quick: measure only the task of the shipped release, on few images, without the detectors that take hours.
    """

    settings: Settings = field(default_factory=Settings)
    data: Mapping[str, Path] = field(default_factory=dict)
    releases: Mapping[str, Path] = field(default_factory=dict)
    sample: int | None = None
    in_domain: int = 2000
    tasks: tuple[str, ...] = ()
    cost: CostConfig = field(default_factory=CostConfig)
    quick: bool = False

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
        return replace(self, sample=sample, in_domain=QUICK_IMAGES, tasks=(QUICK,), releases=shipped)


@final
class Prediction:
    """The classifier's class index of each image, in the form of a score, so that it is kept like one."""

    def __init__(self, networks: Networks) -> None:
        self.networks, self.config = networks, PREDICTION

    @torch.inference_mode()
    def score(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Class indices (B,)."""
        logits: Tensor = self.networks.classifier(images)
        return logits.argmax(1).float()


def measure(config: DetectionBench, output: Path) -> Iterator[Progress | dict[str, Any]]:
    """Train or load the releases, score every task with every detector; the last item is the result as JSON has it.

    What is done is kept under ``output``: stopped at any time, a later call with the same configuration goes on, and
    has lost the one training, or the one detector on one task, that it was at.

    Args:
        config: what to measure.
        output: ``releases/NAME/ID`` and ``scores/TASK/DETECTOR.npz`` are kept in it.

    Raises:
        DataError, ReleaseError, ValueError: when data, a release or a name is not what it must be.
    """
    scope = config.scope
    tasks, notes = available(scope.data, [task for task in TASKS if not scope.tasks or task.name in scope.tasks])
    if not tasks:
        raise ValueError(f"there is nothing to measure: {'; '.join(notes)}")
    results: dict[str, Any] = {}
    answerers: dict[str, Answerer] = {}
    sizes: list[float] = []
    for task in tasks:
        if task.release not in answerers:
            release = yield from release_of(task, scope, output)
            answerers = {task.release: Answerer(release)}  # tasks of one release follow each other
            sizes.append(mebibytes(release))
        results[task.name] = yield from task_results(task, answerers[task.release], scope, output)
    cost = yield from costs(tasks[0], scope, output)
    figures = {"release_mib": max(sizes), **figures_of(results), **{name: cost[name] for name in COST_FIGURES}}
    yield record(figures, command_of(config), tasks=results, cost=cost, notes=notes)


def command_of(config: DetectionBench) -> str:
    """The command that measures this, but for where files lie."""
    told = ["--settings FILE"] * (config.settings != Settings())
    told += [f"--task {name}" for name in config.tasks]
    for name, folder in config.releases.items():
        told.append(f"--release {name}={'pretrained' if folder == SHIPPED.get(name) else 'FOLDER'}")
    told += [f"--data {name}=FILE" for name in config.data]
    sample = [] if config.sample is None else [f"--images {config.sample}"]
    return " ".join(["fedlmd bench detection", *["--quick"] * config.quick, *told, *sample])


COST_FIGURES = ("gflop_per_verdict", "ms_per_verdict_p50", "cost_ratio_lmd_paper", "sgemm_fraction")


def costs(task: Task, config: DetectionBench, output: Path) -> Steps:
    """What a verdict costs with a task's release, on that task's images."""
    yield Progress("cost", 0, 1)
    answerer = Answerer((yield from release_of(task, config, output)))
    known, unknown = (some(images, config.cost.images).images() for images in task_images(task, answerer, config))
    cost = verdict_cost(answerer, known, unknown, config.cost)
    yield Progress("cost", 1, 1)
    return cost


def mebibytes(release: Release) -> float:
    """Size of a release on the disk in MiB, but for the weights' names."""
    card = len(json.dumps(release.card, indent=2, ensure_ascii=False).encode())
    return (card + sum(array.nbytes for array in release.weights.values())) / 2**20


def release_of(task: Task, config: DetectionBench, output: Path) -> Steps:
    """The release of a task: given, kept from before, calibrated anew, or trained; returned at the end.

    Weights that the same training made are taken again when only the detector's or the calibration's settings differ.
    """
    if task.release in config.releases:
        return artifacts.load(config.releases[task.release])
    folder, wanted = output / "releases" / task.release, config.settings.with_labels(task.labels)
    there = list(loadable(folder))
    for told, release in there:
        if told == wanted:
            return release
    old = next((release for told, release in there if trained_alike(told, wanted)), None)
    learner = Learner(Site("bench", wanted.data))
    for step in learner.learn_alone(wanted) if old is None else learner.certify(wanted, old.weights):
        if isinstance(step, Progress):
            yield replace(step, stage=f"{task.release} {step.stage}")
        elif old is None:
            return artifacts.load(artifacts.save(folder, step.metrics["card"], step.weights))
        else:
            return artifacts.load(artifacts.save(folder, recalibrated(old, wanted, step), old.weights))
    raise AssertionError("a learner always ends with a result")


def loadable(folder: Path) -> Iterator[tuple[Settings, Release]]:
    """The releases of a folder that this version reads, newest first, each with its settings."""
    for path in artifacts.releases(folder):
        try:
            release = artifacts.load(path)
            yield settings.from_mapping(release.card["settings"]), release
        except (ReleaseError, SettingsError):
            continue


def trained_alike(a: Settings, b: Settings) -> bool:
    """Whether two runs train the same weights at one site."""
    return replace(a, detector=b.detector, calibration=b.calibration, federation=b.federation) == b


def recalibrated(old: Release, wanted: Settings, result: Result) -> dict[str, Any]:
    """The card of a release whose weights stay and whose thresholds are new."""
    return {**old.card, "settings": settings.to_mapping(wanted), **result.metrics, "calibrated_from": old.id}


def task_images(task: Task, answerer: Answerer, config: DetectionBench) -> tuple[LabelledImages, LabelledImages]:
    """All images of a task in the form that a release takes."""
    told = answerer.settings
    return images_of(task, config.data, labels=told.labels, image_size=told.image_size, channels=told.channels)


def held_back(answerer: Answerer, most: int) -> LabelledImages:
    """Images that a release was not trained on, of the site that its settings describe."""
    told = answerer.settings
    return some(Site("bench", told.data).images(told).held_back, most)


def taking_part(task: Task, answerer: Answerer, config: DetectionBench) -> dict[str, Contender]:
    """The detectors of a task, each with the number of images that it scores."""
    every = contenders(answerer, held_back(answerer, config.in_domain))
    every[PREDICTION] = Contender(Prediction(answerer.networks), 0, every[VERDICT].sample)
    found = {}
    if task.same_classes:
        # Nothing is to be told apart: what counts is what the verdict and the classifier say.
        every = {name: every[name] for name in (VERDICT, PREDICTION)}
    for name, contender in every.items():
        elsewhere = contender.tasks is not None and task.name not in contender.tasks
        if elsewhere or (config.quick and contender.evaluations > QUICK_EVALUATIONS):
            continue
        limits = [limit for limit in (contender.sample, config.sample) if limit is not None]
        found[name] = replace(contender, sample=min(limits, default=None))
    return found


def scores_file(output: Path, task: str, detector: str) -> Path:
    """Where the scores of a detector on a task are kept."""
    return output / "scores" / task / f"{detector}.npz"


def task_results(task: Task, answerer: Answerer, config: DetectionBench, output: Path) -> Steps:
    """Score a task with all detectors that have not done so yet; gives the task's part of the result."""
    images = task_images(task, answerer, config)
    found: dict[str, Scores] = {}
    every = taking_part(task, answerer, config)
    drawn = {name: tuple(sampled(part, contender.sample) for part in images) for name, contender in every.items()}
    total = sum(len(batches_of(every[name], part)) for name, parts in drawn.items() for part in parts)
    done = 0
    for name, contender in every.items():
        known, unknown = drawn[name]
        path, key = scores_file(output, task.name, name), key_of(answerer.release.id, contender, known, unknown)
        before = kept(path, key)
        steps: Iterator[int | Scores] = (
            iter([before]) if before else score(contender, answerer.networks, known, unknown)
        )
        for step in steps:
            if isinstance(step, Scores):
                found[name] = step
            else:
                yield Progress(task.name, done + step, total)
        if before is None:
            keep(path, found[name], key)
        done += sum(len(batches_of(contender, part)) for part in drawn[name])
        yield Progress(task.name, done, total)
    return described(task, answerer, found, *drawn[PREDICTION])


def sampled(images: LabelledImages, most: int | None) -> LabelledImages:
    """At most so many images, a fixed draw; all of them without a limit."""
    return images if most is None else some(images, most)
