"""Images and labels in one .npz file."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from fedlmd.data.catalogue import ArrayPart, Catalogue, JoinedPart, Part, PassedOver, numbered
from fedlmd.data.images import DataError
from fedlmd.data.layouts.splits import arranged, split_of

AnyArray = NDArray[Any]

IMAGE_KEYS = ("x", "images", "image", "imgs", "data", "pixels")
LABEL_KEYS = ("y", "labels", "label", "targets", "target", "classes")
NEEDED = "it needs arrays x and y, or x_train, y_train, x_test and y_test, or train_images, train_labels and so on"

MOST = 10
"""Names that a message lists."""

Kind = Literal["images", "labels"]


def catalogue_of_archive(path: Traversable | Path, name: str) -> Catalogue:
    """List an .npz file.

    Images are (N, H, W), (N, H, W, C) or (N, C, H, W), with C of 1 to 4, of bool, whole numbers or floats. Labels are
    whole numbers or strings, (N,) or (N, 1). Arrays are named by what they hold and by their part, in any order:
    ``x`` and ``y``; ``x_train``, ``y_test``; ``train_images``, ``val_labels`` (MedMNIST's names).

    Raises:
        DataError: no such file, or arrays that do not fit together.
    """
    try:
        with path.open("rb") as file:
            # Never a pickle: np.load would otherwise run whatever code the file holds.
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise DataError(f"it holds a single array; {NEEDED}")
            return catalogue_of_arrays(archive, name)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on a broken archive
        reason = str(error)
        if "Object arrays" in reason:
            reason = "it holds pickled objects, which could run code; save plain arrays of numbers or strings"
        elif "allow_pickle" in reason:  # how NumPy refuses what is neither an archive nor an array
            reason = f"it is a file of another kind; {NEEDED}"
        raise DataError(f"{name} cannot be read as an .npz file of images: {reason}") from error


def catalogue_of_arrays(archive: NpzFile, name: str) -> Catalogue:
    """The catalogue of an open archive. Raises DataError."""
    passed_over, pairs = PassedOver(), defaultdict[str, dict[Kind, str]](dict)
    for key in archive.files:
        kind, split = meaning(key)
        if kind is None:
            passed_over.add("an array that is neither images nor labels by its name", key)
        elif kind in pairs[split]:
            raise DataError(f"it has several arrays of {kind}, {pairs[split][kind]} and {key}; leave one of them")
        else:
            pairs[split][kind] = key
    if "train" in pairs and (beside := pairs.pop("all", None)):
        passed_over.add("arrays beside those of the parts", " and ".join(beside.values()))
    if not pairs or any(len(pair) < 2 for pair in pairs.values()):
        more = f" and {len(archive.files) - MOST:,} more" if len(archive.files) > MOST else ""
        raise DataError(f"{NEEDED}; it has {', '.join(archive.files[:MOST]) or 'none'}{more}")
    refuse_large(archive)
    arrays = {split: (archive[pair["images"]], flat_labels(archive[pair["labels"]])) for split, pair in pairs.items()}
    return assembled(name, arrays, passed_over)


def refuse_large(archive: NpzFile) -> None:
    """Refuse arrays that do not fit into memory, before any is unpacked. Raises DataError."""
    needed = sum(entry.file_size for entry in archive.zip.infolist()) if archive.zip else 0
    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(f"its arrays take {needed:,} bytes of memory and {free:,} are free; give a folder of images")


def meaning(key: str) -> tuple[Kind | None, str]:
    """What an array's name says: images or labels, and of which part."""
    words = [word for word in re.split(r"[^a-z]+", key.casefold()) if word]
    kinds: dict[str, Kind] = {**dict.fromkeys(IMAGE_KEYS, "images"), **dict.fromkeys(LABEL_KEYS, "labels")}
    kind = next((kinds[word] for word in reversed(words) if word in kinds), None)  # the last: image_labels are labels
    return kind, next((split for word in words if (split := split_of(word))), "all")


def assembled(name: str, arrays: dict[str, tuple[AnyArray, AnyArray]], passed_over: PassedOver) -> Catalogue:
    """The catalogue of images and labels by part. Raises DataError."""
    labels, numbers, more = numbered([str(value) for _, y in arrays.values() for value in np.unique(y)])
    parts: dict[str, Part] = {}
    for split, (x, y) in arrays.items():
        if len(x) != len(y):
            raise DataError(f"{len(x)} images but {len(y)} labels; it needs one label for each image")
        values, positions = np.unique(y, return_inverse=True)
        indices = np.array([numbers[str(value)] for value in values], dtype=np.int64)[positions]
        parts[split] = ArrayPart(channels_last(x), indices, name)
    notes: list[str] = []
    return Catalogue(name, labels, arranged("it", parts, JoinedPart, notes), passed_over, (*notes, *more))


def channels_last(x: AnyArray) -> AnyArray:
    """Images as (N, H, W) or (N, H, W, C). Raises DataError."""
    if x.dtype.kind not in "buif":
        raise DataError(f"its images must be numbers or bool, not {x.dtype}")
    if x.ndim in (3, 4) and x.size:
        if x.ndim == 3 or x.shape[3] <= 4:
            return x
        if x.shape[1] <= 4:
            return x.transpose(0, 2, 3, 1)
    raise DataError(
        "its images must be (N, H, W), or with 1 to 4 channels (N, H, W, C) or (N, C, H, W), and not empty, "
        f"not {x.shape}"
    )


def flat_labels(y: AnyArray) -> AnyArray:
    """Labels as (N,), whole numbers or strings. Raises DataError."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2:
        raise DataError(f"its labels have {y.shape[1]} columns, one label for each image is needed: (N,) or (N, 1)")
    if y.ndim != 1:
        raise DataError(f"its labels must be (N,) or (N, 1), not {y.shape}")
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8")
    if y.dtype.kind == "b" or (y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all()):
        y = y.astype(np.int64)
    if y.dtype.kind not in "iuU":
        raise DataError(f"its labels must be whole numbers or strings, not {y.dtype}")
    return y
