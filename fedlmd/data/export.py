"""Write a source as a folder of image files, in a layout that ``load`` reads."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fedlmd.data.catalogue import Catalogue, Part, PassedOver
from fedlmd.data.decoding import DAMAGED
from fedlmd.data.formats import Raw, open_image
from fedlmd.data.images import DataError, check_labels, picture
from fedlmd.data.labels import normal_label
from fedlmd.data.pixel_rules import PixelRules, decode_image
from fedlmd.data.sources import scan
from fedlmd.progress import Progress

STAGE = ".export.part"

LONGEST = 255
"""Bytes of a folder's name, on the usual file systems."""

log = logging.getLogger(__name__)


def export(
    source: str,
    folder: Path,
    *,
    rules: PixelRules | None = None,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    limit: int | None = None,
) -> Generator[Progress, None, None]:
    """Write a source as ``<folder>/{train,eval}/<label>/<number>.png``, or without train and eval where it has neither.

    All is written beside its place and moved there at the end: a crash leaves no half file and no half data set under
    the final names. Closing the generator early removes what it wrote. Images that cannot be decoded are passed over,
    with a warning in the log.

    Args:
        source: what ``load`` takes, and so are ``root`` and ``labels``.
        folder: where to; made if missing.
        rules: how pixels are made; None keeps every image as it is. Values of more than 8 bits are then written with
            16 bits where they fit, and as TIFF files of floats where not.
        root: the source's data root; ``folder`` may lie anywhere.
        labels: only these.
        limit: at most this many images for each label and split, the first ones; None for all.

    Yields:
        One step for each image.

    Raises:
        DataError: the folder is not empty, a label cannot be a folder's name, or the source cannot be read.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit for each label must be 1 or more, not {limit}")
    refuse_occupied(folder)
    catalogue, damaged = scan(source, root=root), PassedOver()
    names = catalogue.labels if labels is None else [normal_label(label) for label in labels]
    check_labels(names, catalogue.labels)
    refuse_unwritable(names)
    chosen = [
        (split, part, number, index)
        for split, part in catalogue.parts.items()
        for number, index in enumerate(first(catalogue, part, names, limit))
    ]
    stage = folder / STAGE
    try:
        stage.mkdir(parents=True)
        for done, (split, part, number, index) in enumerate(chosen, start=1):
            place = stage if split == "all" else stage / split
            try:
                write(part.raw(index), rules, place / catalogue.labels[int(part.labels[index])] / f"{number:05d}")
            except DataError as error:
                damaged.add(f"{DAMAGED} ({error})", part.name(index))
            yield Progress("export", done, len(chosen))
        for path in sorted(stage.iterdir()):
            path.rename(folder / path.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    for sentence in damaged.sentences():
        log.warning("%s: %s", catalogue.name, sentence)


def first(catalogue: Catalogue, part: Part, names: Sequence[str], limit: int | None) -> list[int]:
    """Positions of the images of some labels to write: the first ``limit`` of each label, in order."""
    chosen = [np.flatnonzero(part.labels == catalogue.labels.index(name))[:limit] for name in names]
    positions: list[int] = np.sort(np.concatenate(chosen)).tolist()
    return positions


def write(raw: Raw, rules: PixelRules | None, place: Path) -> None:
    """Write one image into a file whose path is ``place`` and a suffix."""
    image = picture(decode_image(raw, rules)) if rules else open_image(raw)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(image, np.ndarray):
        # PNG knows neither CMYK nor other colours of printing and video.
        kept = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA") else image.convert("RGB")
        kept.save(place.with_name(f"{place.name}.png"))
    elif image.dtype.kind in "iu" and image.ndim == 2 and image.min() >= 0 and image.max() <= 65535:
        Image.fromarray(image.astype(np.uint16)).save(place.with_name(f"{place.name}.png"))
    elif image.ndim == 2:
        Image.fromarray(image.astype(np.float32)).save(place.with_name(f"{place.name}.tif"))
    else:
        raise DataError(
            "more than 8 bits in several channels cannot be written; give a size and channels to convert it"
        )


def refuse_occupied(folder: Path) -> None:
    """Refuse a folder that holds something. Raises DataError."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; choose a folder that is empty or does not exist")
    if folder.exists() and (first := next(folder.iterdir(), None)) is not None:
        raise DataError(f"{folder} is not empty (it holds {first.name}); choose one that is empty or does not exist")


def refuse_unwritable(names: Sequence[str]) -> None:
    """Refuse labels that cannot be names of folders. Raises DataError."""
    for name in names:
        if not name or name.startswith(".") or set(name) & set('/\\\0:*?"<>|') or len(name.encode()) > LONGEST:
            raise DataError(f"label {name!r} cannot be the name of a folder; rename it, or leave it out")
