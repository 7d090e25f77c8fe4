"""Detection on photographs: sign language, CIFAR-10 and magnetic tiles, each with some labels unknown, and far images.

Each task is one training at one site with the defaults, on a folder of images; sign language also in a federation of
two sites by hand, and from scratch at 32 pixels. Results of each are kept, so that a stopped measurement continues.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.photos_heat import heat_figures
from benchmarks.photos_rivals import rival_scores
from benchmarks.record import record
from benchmarks.storage import Steps
from fedlmd.data import DataConfig, LabelledImages, PartitionConfig, load, some
from fedlmd.detection import separation
from fedlmd.inference import Predictor
from fedlmd.progress import Progress
from fedlmd.release import VERDICT, load_release, save_release
from fedlmd.settings import Settings, from_mapping
from fedlmd.worker.alone import resolved, train_alone
from fedlmd.worker.images import WorkerConfig

SIGN = ("012345", "456789", "013579", "024568", "012789")
"""Known signs of the five splits."""

CIFAR = ("012459", "035789", "015678", "345789", "012378")
"""Known classes of CIFAR-10 of the five splits of ARPL's published code (Chen et al. 2021), in alphabetical order."""

TILES = ("Blowhole", "Break", "Free", "Uneven")

FAR, LMD_IMAGES = 200, 150
"""Images of each far set; known and unknown images that LMD scores, which takes 48 evaluations for each."""


@dataclass(frozen=True)
class PhotosConfig:
    """What is measured.

    Args:
        data: folders by name: "sign", "cifar", "tiles", "imagenet"; tasks without their folder are left out.
        output: folder of releases and of the results of each task.
        limit: training images of each class of CIFAR-10.
        tasks: names of tasks; empty for all.
    """

    data: Mapping[str, Path]
    output: Path
    limit: int = 650
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhotoTask:
    """One training and what it is measured on.

    Args:
        name: the task's.
        source: name of its folder.
        known: labels that are learnt.
        settings: that differ from the defaults.
        evaluation: share of each label that nothing is trained on, where the folder has no such part.
        federated: how two sites share the images; None for one site.
    """

    name: str
    source: str
    known: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    evaluation: float = 0.32
    federated: PartitionConfig | None = None


def tasks_of(config: PhotosConfig) -> list[PhotoTask]:
    """All tasks whose folders are given."""
    scratch = {"encoder": {"name": "pixels"}, "image_size": 32, "channels": 3}
    names = sorted(os.listdir(config.data["cifar"] / "test")) if "cifar" in config.data else []
    tasks = [PhotoTask(f"sign-{number}", "sign", tuple(known)) for number, known in enumerate(SIGN)]
    tasks += [PhotoTask("tiles", "tiles", TILES)]
    tasks += [
        PhotoTask(f"cifar-{number}", "cifar", tuple(names[int(digit)] for digit in known) if names else ())
        for number, known in enumerate(CIFAR)
    ]
    iid = PartitionConfig("iid", 2)
    skewed = PartitionConfig("labels", 2, (tuple("0123"), tuple("2345")))
    tasks += [PhotoTask("sign-0-scratch", "sign", tuple(SIGN[0]), scratch)]
    tasks += [PhotoTask("sign-0-iid", "sign", tuple(SIGN[0]), federated=iid)]
    tasks += [PhotoTask("sign-0-lists", "sign", tuple(SIGN[0]), federated=skewed)]
    wanted = [task for task in tasks if task.source in config.data]
    return [task for task in wanted if not config.tasks or task.name in config.tasks]


def measure(config: PhotosConfig) -> Steps:
    """Measure all tasks; the result has the figures of each, and the means."""
    tasks, rows = tasks_of(config), []
    for done, task in enumerate(tasks):
        yield Progress("tasks", done, len(tasks))
        file = config.output / f"{task.name}.json"
        if not file.exists():
            row = yield from measure_task(task, config)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(row, indent=1) + "\n")
        rows.append(json.loads(file.read_text()))
    yield Progress("tasks", len(tasks), len(tasks))
    return record(figures_of(rows), "python -m benchmarks photos", rows=rows)


def measure_task(task: PhotoTask, config: PhotosConfig) -> Generator[Progress, None, dict[str, Any]]:
    """Train, and score known, unknown and far images."""
    source = source_of(task, config)
    data = {"source": str(source), "evaluation": task.evaluation}
    settings = from_mapping({"labels": list(task.known), "data": data, **task.settings})
    store = config.output / "encoded.sqlite"
    worker = WorkerConfig("site", DataConfig(str(source), evaluation=task.evaluation), store=store)
    began, more = time.process_time(), dict[str, Any]()
    if task.federated is None:
        result = yield from train_alone(worker, settings)
        folder = save_release(config.output / "releases", result.metrics["card"], result.weights)
    else:
        from benchmarks.photos_federated import federated  # noqa: PLC0415 - needs Flower

        folder, more = yield from federated(settings, worker, task.federated, config.output / task.name)
    minutes = (time.process_time() - began) / 60
    predictor = Predictor(load_release(folder))
    images = images_of(task, config, predictor.settings)
    row = {"task": task.name, "release": folder.name, "minutes_train": round(minutes, 2), **more}
    row |= figures_of_scores(predictor, images)
    if predictor.settings.has_latents and task.federated is None:
        training = yield from worker.loading(resolved(worker, settings), predictor.networks.encode)
        row["rivals"] = {name: aurocs(scores) for name, scores in rival_scores(predictor, training, images).items()}
    if task.source == "tiles":
        row["heat"] = heat_figures(predictor, config.data["tiles"])
    return row


def source_of(task: PhotoTask, config: PhotosConfig) -> Path:
    """The folder of a task; of CIFAR-10 one with links to so many files of each class, those with the first names."""
    folder = config.data[task.source]
    if task.source != "cifar":
        return folder
    few = config.output / f"cifar-{config.limit}"
    for part, most in (("train", config.limit), ("test", 300)):
        for label in sorted(os.listdir(folder / part)):
            (few / part / label).mkdir(parents=True, exist_ok=True)
            for name in sorted(os.listdir(folder / part / label))[:most]:
                link = few / part / label / name
                if not link.exists():
                    link.symlink_to((folder / part / label / name).resolve())
    return few


def images_of(task: PhotoTask, config: PhotosConfig, settings: Settings) -> dict[str, LabelledImages]:
    """Known, unknown and far images, none of which anything was trained on."""
    source, rules = str(source_of(task, config)), settings.pixel_rules
    data = DataConfig(source, evaluation=task.evaluation)
    known = load(source, "eval", rules=rules, labels=task.known, config=data)
    all_labels = load(source, "eval", rules=rules, config=data).names
    unknown = load(source, "eval", rules=rules, labels=[n for n in all_labels if n not in task.known], config=data)
    images = {"known": known, "unknown": unknown, "far_mnist": some(load("mnist", "eval", rules=rules), FAR)}
    for name, folder in config.data.items():
        if name != task.source:
            path = str(folder / "test") if name == "cifar" else str(folder)
            images[f"far_{name}"] = some(load(path, "all", rules=rules, labelled=False), FAR)
    return images


def figures_of_scores(predictor: Predictor, images: Mapping[str, LabelledImages]) -> dict[str, Any]:
    """AUROC of every score against unknown and far images, accuracy, false alarms, detection and the time of one."""
    names = [name for name in predictor.choices if name != "lmd"]
    scores = {part: scored_by(predictor, each, names) for part, each in images.items()}
    for part in ("known", "unknown"):
        scores[part] |= scored_by(predictor, some(images[part], LMD_IMAGES), ["lmd"])
    known = images["known"]
    logits = torch.cat([predictor.classify(known.images(batch)) for batch in batches(len(known))])
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    times = [timed(lambda n=n: predictor.predict(known.images([n]))) for n in range(30)]
    return {
        "accuracy": round(float((logits.argmax(1) == known.labels).float().mean()), 4),
        "false_alarms": round(float((scores["known"][VERDICT] > threshold).float().mean()), 4),
        "detected": round(float((scores["unknown"][VERDICT] > threshold).float().mean()), 4),
        "scores": {
            name: aurocs({part: by_name[name] for part, by_name in scores.items() if name in by_name})
            for name in predictor.choices
        },
        "ms_per_verdict_p50": round(statistics.median(times[5:]), 1),
        "images": {part: len(each) for part, each in images.items()},
    }


def scored_by(predictor: Predictor, images: LabelledImages, names: Sequence[str]) -> dict[str, Tensor]:
    """Scores of images by their names."""
    parts = [predictor.scores(images.images(batch), names) for batch in batches(len(images))]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def timed(work: Any) -> float:  # noqa: ANN401 - any function
    """Milliseconds that work takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def batches(count: int, size: int = 50) -> list[list[int]]:
    """Positions in batches."""
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


def aurocs(scores: Mapping[str, Tensor]) -> dict[str, float]:
    """AUROC of known against unknown images and against each far set."""
    return {
        part: round(separation(scores["known"], values).auroc, 4) for part, values in scores.items() if part != "known"
    }


def figures_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over the splits of each data set, as far as they were measured."""
    figures: dict[str, Any] = {}
    groups = {"sign64": "sign-?", "cifar64": "cifar-?", "tiles": "tiles"}
    for name, pattern in groups.items():
        group = [row for row in rows if Path(row["task"]).match(pattern)]
        if not group:
            continue
        for suffix, score in (("", VERDICT), ("_one_step", "one-step"), ("_lmd", "lmd")):
            figures[f"auroc_{name}{suffix}"] = mean(row["scores"][score]["unknown"] for row in group)
        figures[f"accuracy_{name}"] = mean(row["accuracy"] for row in group)
        figures[f"false_alarms_{name}"] = mean(row["false_alarms"] for row in group)
        figures[f"splits_{name}"] = len(group)
    single = [row for row in rows if "rivals" in row]
    far = [value for row in single for part, value in row["scores"][VERDICT].items() if part.startswith("far")]
    if far:
        figures |= {"auroc_far": mean(far), "auroc_far_lowest": min(far)}
        figures["ms_per_verdict_p50"] = statistics.median(row["ms_per_verdict_p50"] for row in single)
        figures["minutes_train"] = mean(row["minutes_train"] for row in single)
    if "auroc_sign64" in figures:
        figures["auroc_sign64_diffusion"] = max(figures["auroc_sign64_one_step"], figures["auroc_sign64_lmd"])
    by_name = {row["task"]: row for row in rows}
    figures |= {f"heat_{name}": value for name, value in by_name.get("tiles", {}).get("heat", {}).items()}
    if "sign-0-scratch" in by_name:
        figures["auroc_sign64_scratch"] = by_name["sign-0-scratch"]["scores"][VERDICT]["unknown"]
    for kind in ("iid", "lists"):
        row, alone = by_name.get(f"sign-0-{kind}"), by_name.get("sign-0")
        if row and alone:
            gap = alone["scores"][VERDICT]["unknown"] - row["scores"][VERDICT]["unknown"]
            figures[f"federated_gap_sign64_{kind}"] = round(gap, 4)
            figures["bytes_per_round"] = row["bytes_per_round"]
    return figures


def mean(values: Any) -> float:  # noqa: ANN401 - any iterable of numbers
    """The mean, to four digits."""
    return round(float(np.mean(list(values))), 4)
