"""Where labelled images come from: the MNIST that is shipped, a file of arrays, or a folder of image files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from fedlmd.choices import Registry
from fedlmd.data.catalogue import ArrayPart, Catalogue, Part, PassedOver, held_out, printable
from fedlmd.data.config import DataConfig
from fedlmd.data.images import DataError, LabelledImages, check_labels
from fedlmd.data.labels import normal_label
from fedlmd.data.layouts.archive import catalogue_of_archive
from fedlmd.data.layouts.folder import catalogue_of_folder
from fedlmd.data.layouts.hub import catalogue_of_tables, table_files
from fedlmd.data.layouts.splits import Split
from fedlmd.data.layouts.walk import held_inside
from fedlmd.data.pixel_rules import PixelRules, convert, convert_array

log = logging.getLogger(__name__)

Source = Callable[[Literal["train", "eval"]], LabelledImages]
"""Gives one split of a named source, at whatever size its images have."""

DAMAGED = "an image that cannot be decoded"


def mnist(split: Literal["train", "eval"]) -> LabelledImages:
    """The MNIST that ships with the package."""
    name = "test" if split == "eval" else "train"
    with resources.files("fedlmd.data").joinpath("mnist", "mnist.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        pixels, labels = arrays[f"x_{name}"], arrays[f"y_{name}"].astype(np.int64)
    return LabelledImages(torch.from_numpy(pixels)[:, None], torch.from_numpy(labels), tuple("0123456789"))


SOURCES: Registry[Source] = Registry("data source", "fedlmd.sources", {"mnist": mnist})
"""Sources by name; other packages add theirs as entry points. Everything else is a path."""


def load(
    source: str,
    split: Split,
    *,
    rules: PixelRules | None = None,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    config: DataConfig | None = None,
    labelled: bool = True,
) -> LabelledImages:
    """Load one split of a source.

    What is passed over or changed is said in the log of ``fedlmd.data``: dropped images as warnings.

    Args:
        source: one of

            - a name of ``SOURCES``, such as ``mnist``: the shipped data set, 60,000 (train) and 10,000 (eval) digits;
            - a path to an .npz file, see ``fedlmd.data.layouts.archive``;
            - a path to a folder of images, see ``fedlmd.data.layouts.folder``, or of a Hugging Face data set, see
              ``fedlmd.data.layouts.hub``.
        split: "train", "eval", or "all" for both. Where a source has no part to evaluate on, a share of each label is
            split off, the same images in every run; "all" has no need of it.
        rules: how pixels are made; by default those of the digits, 28 x 28 and grey.
        root: the data root, if paths must lie in one: relative paths start there, and every path that leads outside,
            absolute, by ``..`` or through a symbolic link, is refused.
        labels: load only these, numbered in this order; by default all that any split has, 2 before 10.
        config: gives ``evaluation`` and ``strict``; the defaults without it.
        labelled: whether images need labels; a folder of images without label folders is then refused.

    Raises:
        DataError: the source is missing, unreadable, of the wrong form or outside the root, or a label is unknown or
            has no image. The message names the file or the label.
    """
    if split not in get_args(Split):
        raise DataError(f"there is no split {split!r}; choose train, eval or all")
    rules, config = rules or PixelRules(), config or DataConfig()
    if source in SOURCES:
        return load_named(source, split, rules, labels)
    catalogue = scan(source, root=root, labelled=labelled)
    for sentence in catalogue.missed(strict=config.strict):
        log.warning("%s: %s", catalogue.name, sentence)
    for note in catalogue.notes:
        log.info("%s: %s", catalogue.name, note)
    return decoded(catalogue, split, rules, labels, config)


def load_named(source: str, split: Split, rules: PixelRules, labels: Sequence[str] | None) -> LabelledImages:
    """Load one split of a source that is registered."""
    if split == "all":
        train, held = load_named(source, "train", rules, labels), load_named(source, "eval", rules, labels)
        pixels, numbers = torch.cat([train.pixels, held.pixels]), torch.cat([train.labels, held.labels])
        return LabelledImages(pixels, numbers, train.names)
    loaded = named(source)(split)
    if labels is not None:
        loaded = loaded.select([normal_label(label) for label in labels])
    return LabelledImages(convert_array(loaded.pixels, rules), loaded.labels, loaded.names)


def scan(source: str, *, root: Path | None = None, labelled: bool = True) -> Catalogue:
    """List a source without decoding its images; arguments and errors as for ``load``."""
    if source in SOURCES:
        splits: tuple[Literal["train", "eval"], ...] = ("train", "eval")
        loaded = {split: named(source)(split) for split in splits}
        parts: dict[Split, Part] = {
            split: ArrayPart(images.pixels.permute(0, 2, 3, 1).numpy(), images.labels.numpy(), source)
            for split, images in loaded.items()
        }
        return Catalogue(source, loaded["train"].names, parts)
    path, base = locate(source, root)
    if os.path.isdir(path):
        tables = table_files(path)
        return catalogue_of_tables(path, tables, base) if tables else catalogue_of_folder(path, base, labelled=labelled)
    if not os.path.isfile(path):
        raise DataError(f"there is no data at {str(path)!r}; {give_a_source()}")
    return catalogue_of_archive(path, str(path))


def decoded(
    catalogue: Catalogue, split: Split, rules: PixelRules, labels: Sequence[str] | None, config: DataConfig
) -> LabelledImages:
    """Decode the images of a split, one by one into the memory that they need in the end. Raises DataError."""
    part = catalogue.part(split, config.evaluation)
    if not len(part):
        raise DataError(f"{catalogue.name} has one image of each label and so none to evaluate on; add images")
    if labels is not None:
        part, names = chosen(catalogue, part, split, [normal_label(label) for label in labels])
    else:
        names = catalogue.labels
    pixels = torch.empty((len(part), rules.channels, rules.size, rules.size), dtype=torch.uint8)
    changes, damaged, kept = Counter[str](), PassedOver(), np.ones(len(part), dtype=np.bool_)
    for index in range(len(part)):
        try:
            pixels[index], changed = convert(part.raw(index), rules)
        except DataError as error:
            if config.strict:
                raise type(error)(f"{printable(part.name(index))}: {error}; strict is true") from error
            damaged.add(f"{DAMAGED} ({error})", part.name(index))
            kept[index] = False
        else:
            changes.update(changed)
    say(catalogue, split, len(part), changes, damaged)
    if not kept.any():
        raise DataError(f"{catalogue.name} has no {split} image that can be decoded: {'; '.join(damaged.sentences())}")
    if not kept.all():
        pixels = pixels[torch.from_numpy(kept)]
    return LabelledImages(pixels, torch.from_numpy(part.labels[kept]), tuple(names))


def chosen(catalogue: Catalogue, part: Part, split: Split, labels: Sequence[str]) -> tuple[Part, Sequence[str]]:
    """The images of some labels, with labels numbered in this order. Raises DataError."""
    check_labels(labels, catalogue.labels)
    renumbered = np.full(len(catalogue.labels), -1, dtype=np.int64)
    for number, label in enumerate(labels):
        old = catalogue.labels.index(label)
        if not (part.labels == old).any():
            raise DataError(
                f"label {label!r} has no {split} image in {catalogue.name}; leave it out, or add images of it"
            )
        renumbered[old] = number
    taken = part.take(np.flatnonzero(renumbered[part.labels] >= 0))
    taken.labels = renumbered[taken.labels]
    return taken, labels


def say(catalogue: Catalogue, split: Split, count: int, changes: Counter[str], damaged: PassedOver) -> None:
    """Log what was changed and what was passed over."""
    if changes:
        words = "; ".join(f"{number:,} {change}" for change, number in changes.most_common())
        log.info("%s, %s: of %s images %s", catalogue.name, split, f"{count:,}", words)
    for sentence in damaged.sentences():
        log.warning("%s, %s: %s", catalogue.name, split, sentence)


def label_names(
    source: str, split: Split, *, root: Path | None = None, config: DataConfig | None = None
) -> tuple[str, ...]:
    """The labels that a split of a source has, in natural order, without decoding an image.

    Arguments and errors as for ``load``.
    """
    if source in SOURCES:
        return named(source)("train" if split == "train" else "eval").names
    catalogue = scan(source, root=root)
    part = catalogue.part(split, (config or DataConfig()).evaluation)
    return tuple(catalogue.labels[index] for index in np.unique(part.labels).tolist())


def evaluation_split(source: str, *, root: Path | None = None) -> Split:
    """The split of a source that nothing was trained on: all of it, where it has no part to evaluate on.

    For images of another source than a release's; arguments and errors as for ``load``.
    """
    return "eval" if source in SOURCES or scan(source, root=root, labelled=False).divided else "all"


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
    held = held_out(dataset.labels.numpy(), fraction, least=0, seed=seed)
    return dataset.take(np.flatnonzero(~held)), dataset.take(np.flatnonzero(held))


def locate(source: str, root: Path | None) -> tuple[Path, Path | None]:
    """The source's path and the resolved root that it lies in."""
    if not source or "\0" in source:
        raise DataError(f"{source!r} is no path; {give_a_source()}")
    if root is None:
        return Path(source), None
    base = Path(os.path.realpath(root))
    return held_inside(base / source, base), base
