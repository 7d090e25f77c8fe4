"""Write a source as a folder of PNG files, the layout that ``load`` reads."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from fedlmd.data.images import DataError, LabelledImages
from fedlmd.data.sources import Split, load

__all__ = ["Exported", "export"]

STAGE = ".export.part"


@dataclass(frozen=True)
class Exported:
    """Progress: ``done`` of ``total`` images are written; the folder is complete once the generator has ended."""

    done: int
    total: int


def export(
    source: str,
    folder: Path,
    *,
    image_size: int = 28,
    channels: int = 1,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
) -> Iterator[Exported]:
    """Write both splits as ``<folder>/{train,eval}/<label>/<index>.png``.

    All is written beside its place and moved there at the end: a crash leaves no half file and no half data set under
    the final names. To give up early, close the generator; it then removes what it wrote.

    Args:
        source: what ``load`` takes, and so are ``image_size``, ``channels``, ``root`` and ``labels``.
        folder: where to; made if missing.
        image_size: height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        root: the source's data root; the folder may lie anywhere.
        labels: only these.
        limit: at most this many images for each label and split, the first ones; None for all.

    Yields:
        One record for each image.

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
            yield Exported(done, total)
        for split in chosen:
            (stage / split).rename(folder / split)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def refuse_occupied(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; choose a folder that is empty or does not exist")
    found = next(folder.iterdir(), None) if folder.exists() else None
    if found is not None:
        raise DataError(
            f"{folder} is not empty (it holds {found.name}); choose a folder that is empty or does not exist"
        )


def refuse_unwritable(names: Sequence[str]) -> None:
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
    label_folder = folder / dataset.names[int(dataset.labels[index])]
    label_folder.mkdir(parents=True, exist_ok=True)
    pixels = np.ascontiguousarray(dataset.pixels[index].permute(1, 2, 0).numpy())
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(label_folder / f"{index:05d}.png")
