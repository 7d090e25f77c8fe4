"""Where labelled images come from: the MNIST that is shipped, an .npz file, or a folder of image files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from torch import Tensor

from fedlmd.choices import Registry
from fedlmd.data.images import IMAGE_SUFFIXES, DataError, LabelledImages, check_labels, decode_image, fit_pixels

Split = Literal["train", "eval"]
"""Which part of a source: the one to train on, or the one to evaluate on."""

Source = Callable[[Split], LabelledImages]
"""Gives one split of a named source, at whatever size its images have."""

AnyArray = NDArray[Any]


def mnist(split: Split) -> LabelledImages:
    """The MNIST that ships with the package."""
    return read_npz(resources.files("fedlmd.data").joinpath("mnist", "mnist.npz"), "mnist", split)


SOURCES: Registry[Source] = Registry("data source", "fedlmd.sources", {"mnist": mnist})
"""Sources by name; other packages add theirs as entry points. Everything else is a path."""


def load(
    source: str,
    split: Split,
    *,
    image_size: int = 28,
    channels: int = 1,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
) -> LabelledImages:
    """Load one split of a source.

    Args:
        source: one of

            - a name of ``SOURCES``, such as ``mnist``: the shipped data set, 60,000 (train) and 10,000 (eval) digits;
            - a path to an .npz file: arrays ``x`` and ``y`` for both splits, or ``x_train``, ``y_train``, ``x_test``
              and ``y_test``; images uint8 (N, H, W) or (N, H, W, C), labels whole numbers or strings (N,);
            - a path to a folder: ``<folder>/<split>/<label>/*.png`` where it has a sub folder train or eval,
              ``<folder>/<label>/*.png`` for both splits where it has neither. Other suffixes than
              ``images.IMAGE_SUFFIXES`` and names with a leading dot are passed over.
        split: "train" or "eval".
        image_size: height and width in pixels; other sizes are fitted as ``decode_image`` does it.
        channels: 1 (grey) or 3 (RGB).
        root: the data root, if paths must lie in one: relative paths start there, and every path that leads outside,
            absolute, by ``..`` or through a symbolic link, is refused.
        labels: load only these, numbered in this order; by default all that any split has, 2 before 10.

    Raises:
        DataError: the source is missing, unreadable, of the wrong form or outside the root, or a label is unknown or
            has no image. The message names the file or the label.
    """
    if split not in get_args(Split):
        raise DataError(f"there is no split {split!r}; choose train or eval")
    if source in SOURCES.names:
        loaded = named(source)(split)
    else:
        path, base = locate(source, root)
        if os.path.isdir(path):
            return read_folder(path, split, (image_size, channels), base, labels)
        if not os.path.isfile(path):
            raise DataError(f"there is no data at {str(path)!r}; {give_a_source()}")
        loaded = read_npz(path, str(path), split)
    if labels is not None:
        loaded = loaded.select(labels)
    return LabelledImages(fit_pixels(loaded.pixels, image_size, channels), loaded.labels, loaded.names)


def label_names(source: str, split: Split, *, root: Path | None = None) -> tuple[str, ...]:
    """The labels that a split of a source has, in natural order, without decoding an image.

    Raises:
        DataError: as ``load``.
    """
    if source not in SOURCES.names:
        path, base = locate(source, root)
        if os.path.isdir(path):
            names, folders = label_folders(path, split, base)
            return tuple(name for name in names if name in folders)
    return load(source, split, root=root).names


def give_a_source() -> str:
    """What a source can be, as the end of a message."""
    return f"give {', '.join(SOURCES.names)}, an .npz file or a folder of images"


def named(source: str) -> Source:
    """The source of a name. Raises DataError where its package cannot be imported."""
    try:
        return SOURCES[source]
    except ValueError as error:
        raise DataError(str(error)) from None


def split_held_back(dataset: LabelledImages, fraction: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Divide into a part to train on and a part held back for calibration, label by label.

    Args:
        dataset: what to divide.
        fraction: share of each label that is held back, 0 to below 1, rounded to whole images. Every label keeps at
            least one image to train on.
        seed: 0 or more; the same seed holds back the same images.

    Returns:
        The training part and the held-back part: no image in common, the order of the data set kept in both.

    Raises:
        DataError: the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"the held-back fraction must be 0 to below 1, not {fraction}")
    held = np.zeros(len(dataset), dtype=bool)
    labels = dataset.labels.numpy()
    for label in np.unique(labels):
        members = np.random.default_rng([seed, int(label)]).permutation(np.flatnonzero(labels == label))
        held[members[: min(round(fraction * len(members)), len(members) - 1)]] = True
    return dataset.take(np.flatnonzero(~held)), dataset.take(np.flatnonzero(held))


def locate(source: str, root: Path | None) -> tuple[Path, Path | None]:
    """The source's path and the resolved root that it lies in."""
    if not source or "\0" in source:
        raise DataError(f"{source!r} is no path; {give_a_source()}")
    if root is None:
        return Path(source), None
    base = Path(os.path.realpath(root))
    return held_inside(base / source, base), base


def held_inside(path: Path, base: Path) -> Path:
    """The path with its links resolved, refused when they lead out of the root."""
    resolved = Path(os.path.realpath(path))
    if not resolved.is_relative_to(base):
        raise DataError(f"{str(path)!r} leads outside the data root; give a path inside it")
    return resolved


def read_npz(path: Traversable | Path, name: str, split: Split) -> LabelledImages:
    """One split of an .npz file. Raises DataError."""
    try:
        with path.open("rb") as file:
            # Never a pickle: np.load would otherwise run whatever code the file holds.
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise DataError("it holds a single array")
            x_key, y_key = npz_keys(archive, split)
            x, y = archive[x_key], archive[y_key]
            every_y = [y] if y_key == "y" else [archive["y_train"], archive["y_test"]]
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on a broken archive
        raise DataError(f"{name} cannot be read as an .npz file of images: {error}") from error
    return from_arrays(x, y, every_y, name)


def npz_keys(archive: NpzFile, split: Split) -> tuple[str, str]:
    """The names of a split's images and labels in an archive. Raises DataError."""
    if {"x_train", "y_train", "x_test", "y_test"} <= set(archive.files):
        suffix = "train" if split == "train" else "test"
        return f"x_{suffix}", f"y_{suffix}"
    if {"x", "y"} <= set(archive.files):
        return "x", "y"
    names = ", ".join(archive.files)
    raise DataError(f"it needs arrays x and y, or x_train, y_train, x_test and y_test; it has {names}")


def from_arrays(x: AnyArray, y: AnyArray, every_y: list[AnyArray], name: str) -> LabelledImages:
    """Labelled images from arrays of untrusted form; ``every_y`` are the labels of all splits. Raises DataError."""
    if x.dtype != np.uint8:
        raise DataError(f"the images of {name} must be uint8 (0 to 255), not {x.dtype}")
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[-1] not in (1, 3)) or 0 in x.shape:
        raise DataError(f"the images of {name} must be (N, H, W) or (N, H, W, 1 or 3) and not empty, not {x.shape}")
    for labels in every_y:
        if labels.dtype.kind not in "iuU" or labels.ndim != 1:
            raise DataError(
                f"the labels of {name} must be whole numbers or strings (N,), not {labels.dtype} {labels.shape}"
            )
    if len(x) != len(y):
        raise DataError(f"{name} has {len(x)} images but {len(y)} labels; it needs one label for each image")
    names = sorted({str(value) for labels in every_y for value in np.unique(labels)}, key=natural)
    values, positions = np.unique(y, return_inverse=True)
    indices = np.array([names.index(str(value)) for value in values], dtype=np.int64)[positions]
    pixels = torch.from_numpy(x.reshape(*x.shape[:3], -1)).permute(0, 3, 1, 2).contiguous()
    return LabelledImages(pixels, torch.from_numpy(indices), tuple(names))


def read_folder(
    folder: Path, split: Split, shape: tuple[int, int], base: Path | None, labels: Sequence[str] | None
) -> LabelledImages:
    """One split of a folder of images; ``shape`` is size and channels. Raises DataError."""
    names, folders = label_folders(folder, split, base)
    if labels is not None:
        check_labels(labels, names)
        names = list(labels)
    files: list[Path] = []
    indices: list[int] = []
    for index, label in enumerate(names):
        if label not in folders:
            if labels is None:
                continue  # only the other split has it: the numbers are to mean the same in both
            raise DataError(f"label {label!r} has no {split} image in {folder}; leave it out, or add a folder of it")
        in_folder = image_files(folders[label], base)
        files += in_folder
        indices += [index] * len(in_folder)
    pixels = torch.empty((len(files), shape[1], shape[0], shape[0]), dtype=torch.uint8)
    for position, file in enumerate(files):
        pixels[position] = read_image(file, *shape)
    return LabelledImages(pixels, torch.tensor(indices, dtype=torch.int64), tuple(names))


def label_folders(folder: Path, split: Split, base: Path | None) -> tuple[list[str], dict[str, Path]]:
    """The labels of all splits in natural order, and the folder of each label that this split has."""
    splits = {name: path for name, path in folders(folder, base).items() if name in get_args(Split)}
    if splits and split not in splits:
        raise DataError(f"{folder} has {' and '.join(splits)} but no {split} folder; add it, or use neither of the two")
    labelled = {name: folders(path, base) for name, path in (splits or {str(split): folder}).items()}
    names = sorted({label for folders in labelled.values() for label in folders}, key=natural)
    if not labelled[split]:
        where = splits.get(split, folder)
        raise DataError(f"{where} has no label folders; put each label's images in a folder of its name")
    return names, labelled[split]


def folders(folder: Path, base: Path | None) -> dict[str, Path]:
    """The sub-folders of a folder by name."""
    return {path.name: target for path, target in entries(folder, base) if os.path.isdir(target)}


def image_files(folder: Path, base: Path | None) -> list[Path]:
    """The image files of a folder, in natural order. Raises DataError when there is none."""
    files = {
        path.name: target
        for path, target in entries(folder, base)
        if path.name.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(target)
    }
    if not files:
        raise DataError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); add one, or remove the folder")
    return [files[name] for name in sorted(files, key=natural)]


def entries(folder: Path, base: Path | None) -> Iterator[tuple[Path, Path]]:
    """The visible entries of a folder, as path and target: links are followed only inside the root."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    path = Path(entry.path)
                    yield path, held_inside(path, base) if base is not None and entry.is_symlink() else path
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}") from error


def read_image(file: Path, image_size: int, channels: int) -> Tensor:
    """Decode an image file. Raises DataError naming the file."""
    try:
        return decode_image(file.read_bytes(), image_size, channels)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except DataError as error:
        raise type(error)(f"{file}: {error}") from error


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key under which 2 comes before 10: each run of digits is compared by its length first."""
    parts = re.split("([0-9]+)", name)
    key = [
        (0, part) if position % 2 == 0 else (len(part.lstrip("0")), part.lstrip("0"))
        for position, part in enumerate(parts)
    ]
    return [*key, (0, name)]
