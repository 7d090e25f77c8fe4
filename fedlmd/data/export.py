"""Write a source as a folder of PNG files, the layout that ``load`` reads."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import get_args

from fedlmd.data.images import DataError, LabelledImages, picture
from fedlmd.data.sources import Split, load
from fedlmd.progress import Progress

STAGE = ".export.part"


def export(
    source: str,
    folder: Path,
    *,
    image_size: int = 28,
    channels: int = 1,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
) -> Generator[Progress, None, None]:
    """Write both splits as ``<folder>/{train,eval}/<label>/<index>.png``.

    All is written beside its place and moved there at the end: a crash leaves no half file and no half data set under
    the final names. Closing the generator early removes what it wrote.

    Args:
        source: what ``load`` takes, and so are ``image_size``, ``channels``, ``root`` and ``labels``.
        folder: where to; made if missing.
        image_size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        root: the source's data root; ``folder`` may lie anywhere.
        labels: only these.
        limit: at most this many images for each label and split, the first ones; None for all.

    Yields:
        One step for each image.

    Raises:
        DataError: the folder is not empty, a label cannot be a folder's name, or ``load`` refuses the source.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit for each label must be 1 or more, not {limit}")
    refuse_occupied(folder)
    splits: dict[str, LabelledImages] = {
        split: load(source, split, image_size=image_size, channels=channels, root=root, labels=labels)
        for split in get_args(Split)
    }
    refuse_unwritable(next(iter(splits.values())).names)
    chosen = {split: first_of_each(dataset, limit) for split, dataset in splits.items()}
    total = sum(map(len, chosen.values()))
    stage = folder / STAGE
    try:
        stage.mkdir(parents=True)
        files = ((split, index) for split, indices in chosen.items() for index in indices)
        for done, (split, index) in enumerate(files, start=1):
            write(splits[split], index, stage / split)
            yield Progress("export", done, total)
        for split in chosen:
            (stage / split).rename(folder / split)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def refuse_occupied(folder: Path) -> None:
    """Refuse a folder that holds something. Raises DataError."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; choose a folder that is empty or does not exist")
    if folder.exists() and (first := next(folder.iterdir(), None)) is not None:
        raise DataError(f"{folder} is not empty (it holds {first.name}); choose one that is empty or does not exist")


def refuse_unwritable(names: Sequence[str]) -> None:
    """Refuse labels that cannot be names of folders. Raises DataError."""
    for name in names:
        if not name or name.startswith(".") or set(name) & set('/\\\0:*?"<>|'):
            raise DataError(f"label {name!r} cannot be the name of a folder; rename it, or leave it out")


def first_of_each(dataset: LabelledImages, limit: int | None) -> list[int]:
    """Positions of the images to write: the first ``limit`` of each label, in order."""
    seen: Counter[int] = Counter()
    chosen: list[int] = []
    for position, label in enumerate(dataset.labels.tolist()):
        seen[label] += 1
        if limit is None or seen[label] <= limit:
            chosen.append(position)
    return chosen


def write(dataset: LabelledImages, index: int, folder: Path) -> None:
    """Write one image as a PNG file into its label's folder."""
    label_folder = folder / dataset.names[int(dataset.labels[index])]
    label_folder.mkdir(parents=True, exist_ok=True)
    picture(dataset.pixels[index]).save(label_folder / f"{index:05d}.png")
