"""The tasks of the detection benchmark: which images are known, and which are to be called unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedlmd.data import DataError, LabelledImages, PixelRules, evaluation_split, load, some
from fedlmd.settings import DIGITS

SPLITS: tuple[tuple[str, ...], ...] = tuple(
    tuple(known) for known in ("245983", "326940", "583246", "378405", "634982")
)
"""Known digits of the five splits of Neal et al. 2018, as ARPL's published code has them (Chen et al. 2021)."""


@dataclass(frozen=True)
class Task:
    """Known images against unknown ones; both are test images that nothing was trained on.

    Args:
        name: the task's name in files and tables.
        title: what it is, in words.
        labels: the digits that the release knows, in the order of its outputs.
        unknown: MNIST's digits that are unknown; empty where another data set is.
        foreign: the other data set's name; empty where MNIST's own digits are unknown.
        same_classes: whether the other data set shows the known digits in other handwriting: calling them unknown is
            then a false alarm, and no figure of separation is given.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    foreign: str = ""
    same_classes: bool = False

    @property
    def release(self) -> str:
        """The name of the task's release: tasks with the same digits share one."""
        first, last = int(self.labels[0]), int(self.labels[-1])
        whole = self.labels == DIGITS[first : last + 1]
        return f"digits-{first}-{last}" if whole else f"digits-{''.join(self.labels)}"


def digits_task(name: str, title: str, known: Sequence[str], unknown: Sequence[str] = ()) -> Task:
    """Some digits against some others, or against all others."""
    labels = tuple(sorted(known))
    others = tuple(sorted(unknown)) or tuple(digit for digit in DIGITS if digit not in labels)
    return Task(name, title, labels, others)


TASKS: tuple[Task, ...] = (
    digits_task("01234", "digits 0-4 against 5-9", "01234"),
    *(
        digits_task(f"mnist64-{i}", f"digits {', '.join(sorted(known))} against the other four", known)
        for i, known in enumerate(SPLITS)
    ),
    digits_task("0123-459", "digits 0-3 against 4, 5, 9", "0123", "459"),
    Task("fashion", "ten digits against Fashion-MNIST", DIGITS, foreign="fashion"),
    Task("notmnist", "ten digits against notMNIST", DIGITS, foreign="notmnist"),
    Task("usps", "ten digits in another hand: USPS", DIGITS, foreign="usps", same_classes=True),
)


def available(data: Mapping[str, Path], tasks: Sequence[Task] = TASKS) -> tuple[list[Task], list[str]]:
    """The tasks whose images were given, and a note for each of the others.

    Args:
        data: .npz files by the name of their data set.
        tasks: which tasks are wanted.

    Raises:
        ValueError: when a file is given for a data set that no task has.
    """
    wanted = {task.foreign for task in tasks if task.foreign}
    if unused := sorted(data.keys() - {task.foreign for task in TASKS}):
        raise ValueError(f"no task has a data set {unused[0]!r}; there are {', '.join(sorted(wanted))}")
    with_images = [task for task in tasks if not task.foreign or task.foreign in data]
    missing = [task for task in tasks if task not in with_images]
    return with_images, [f"{task.name} was left out: its data set {task.foreign!r} was not given" for task in missing]


def images_of(
    task: Task,
    data: Mapping[str, Path],
    *,
    labels: Sequence[str] | None = None,
    rules: PixelRules | None = None,
    sample: int | None = None,
) -> tuple[LabelledImages, LabelledImages]:
    """The known and the unknown images of a task, from test splits alone.

    Args:
        task: which.
        data: .npz files by the name of their data set, as ``load`` takes them; with its own test split where the file
            has one. Images of one grey value throughout, which show nothing, are dropped.
        labels: the task's labels in the order of a release's outputs; the task's own order by default.
        rules: how pixels are made; those of the digits by default.
        sample: at most so many of each kind, a fixed draw; None takes all.

    Returns:
        Known images, indices as in ``labels``; unknown images, which where ``same_classes`` holds have these indices,
        too.

    Raises:
        DataError: when a file is missing or holds something else.
        ValueError: when ``labels`` are not the task's.
    """
    names = tuple(labels or task.labels)
    if set(names) != set(task.labels):
        raise ValueError(f"task {task.name} needs a release of {', '.join(task.labels)}, not of {', '.join(names)}")

    def read(source: str, chosen: Sequence[str] | None) -> LabelledImages:
        return load(source, evaluation_split(source), rules=rules, labels=chosen)

    known = read("mnist", names)
    if task.foreign and task.foreign not in data:
        raise DataError(f"task {task.name} needs the data set {task.foreign!r}; give its .npz file")
    unknown = (
        with_content(read(str(data[task.foreign]), names if task.same_classes else None))
        if task.foreign
        else read("mnist", task.unknown)
    )
    return (known, unknown) if sample is None else (some(known, sample), some(unknown, sample))


def with_content(images: LabelledImages) -> LabelledImages:
    """All images but those of one grey value."""
    flat = images.pixels.flatten(1)
    return images.take(torch.nonzero(flat.amax(1) > flat.amin(1)).flatten())
