"""Where labelled images come from: a data set that is shipped, a file of arrays, or a folder of image files."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from fedlmd.choices import Registry
from fedlmd.data.catalogue import ArrayPart, Catalogue, Part
from fedlmd.data.config import DataConfig
from fedlmd.data.decoding import Encode, Loading, decoded
from fedlmd.data.images import DataError, LabelledImages
from fedlmd.data.labels import normal_label
from fedlmd.data.layouts.archive import catalogue_of_archive
from fedlmd.data.layouts.folder import catalogue_of_folder
from fedlmd.data.layouts.hub import catalogue_of_tables, table_files
from fedlmd.data.layouts.splits import Split
from fedlmd.data.layouts.walk import held_inside
from fedlmd.data.partition import partition, share_indices
from fedlmd.data.pixel_rules import PixelRules, convert_array
from fedlmd.data.sign_digits import SIGN_DIGITS, catalogue_of_packed
from fedlmd.progress import drain

log = logging.getLogger(__name__)

Arrays = Callable[[Literal["train", "eval"]], LabelledImages]
"""Gives one split of a named source, at whatever size its images have."""

Source = Arrays | Path
"""A named source: its arrays, or a ZIP archive of image files ``LABEL/FILE`` without a part to evaluate on."""


def mnist(split: Literal["train", "eval"]) -> LabelledImages:
    """The MNIST that ships with the package."""
    name = "test" if split == "eval" else "train"
    with resources.files("fedlmd.data").joinpath("mnist", "mnist.npz").open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        pixels, labels = arrays[f"x_{name}"], arrays[f"y_{name}"].astype(np.int64)
    return LabelledImages(torch.from_numpy(pixels)[:, None], torch.from_numpy(labels), tuple("0123456789"))


SOURCES: Registry[Source] = Registry("data source", "fedlmd.sources", {"mnist": mnist, "sign-digits": SIGN_DIGITS})
"""Sources by name; other packages add theirs as entry points. Everything else is a path."""


def load(source: str, split: Split, **options: Any) -> LabelledImages:  # noqa: ANN401 - those of ``loading``
    """Load one split of a source; arguments and errors as for ``loading``."""
    return drain(loading(source, split, **options))


def loading(  # noqa: PLR0913 - each is a choice of its own
    source: str,
    split: Split,
    *,
    rules: PixelRules | None = None,
    root: Path | None = None,
    labels: Sequence[str] | None = None,
    config: DataConfig | None = None,
    labelled: bool = True,
    share: int | None = None,
    only: Sequence[str] = (),
    encode: Encode | None = None,
) -> Loading:
    """Load one split of a source; the generator yields what is encoded, and returns the images.

    What is passed over or changed is said in the log of ``fedlmd.data``: dropped images as warnings.

    Args:
        source: one of

            - a name of ``SOURCES``: ``mnist``, 60,000 (train) and 10,000 (eval) digits, or ``sign-digits``, 2,062
              photographs of hands; both are shipped;
            - a path to an .npz file, see ``fedlmd.data.layouts.archive``;
            - a path to a folder of images, see ``fedlmd.data.layouts.folder``, or of a Hugging Face data set, see
              ``fedlmd.data.layouts.hub``.
        split: "train", "eval", or "all" for both. Where a source has no part to evaluate on, a share of each label is
            split off, the same images in every run; "all" has no need of it.
        rules: how pixels are made; by default those of the digits, 28 x 28 and grey.
        root: the data root, if paths must lie in one: relative paths start there, and every path that leads outside,
            absolute, by ``..`` or through a symbolic link, is refused.
        labels: load only these, numbered in this order; by default all that any split has, 2 before 10.
        config: gives ``evaluation``, ``strict`` and ``partition``; the defaults without it.
        labelled: whether images need labels; a folder of images without label folders is then refused.
        share: the worker whose share by ``config.partition`` is loaded; None for all images.
        only: labels of a share, where the images of others need not be decoded; they keep their numbers.
        encode: turns pixels into latents, which are kept in their place.

    Raises:
        DataError: the source is missing, unreadable, of the wrong form or outside the root, or a label is unknown or
            has no image. The message names the file or the label.
    """
    if split not in get_args(Split):
        raise DataError(f"there is no split {split!r}; choose train, eval or all")
    rules, config = rules or PixelRules(), config or DataConfig()
    if (arrays := arrays_of(source)) is not None and encode is None:
        return load_arrays(arrays, split, rules, labels, config, share)
    catalogue = scan(source, root=root, labelled=labelled)
    for sentence in catalogue.missed(strict=config.strict):
        log.warning("%s: %s", catalogue.name, sentence)
    for note in catalogue.notes:
        log.info("%s: %s", catalogue.name, note)
    part = share_of_part(catalogue, split, config, share)
    if only and encode is not None:
        numbers = [number for number, label in enumerate(catalogue.labels) if label in only]
        wanted = np.flatnonzero(np.isin(part.labels, numbers))
        part = part.take(wanted if len(wanted) else np.arange(1))  # the caller says which labels there are instead
    return (yield from decoded(catalogue, part, split, rules, labels, config.strict, encode))


def load_arrays(
    arrays: Arrays,
    split: Split,
    rules: PixelRules,
    labels: Sequence[str] | None,
    config: DataConfig,
    share: int | None,
) -> LabelledImages:
    """Load one split of a source that is registered as arrays."""
    if split == "all":
        train, held = arrays("train"), arrays("eval")
        pixels, numbers = torch.cat([train.pixels, held.pixels]), torch.cat([train.labels, held.labels])
        loaded = LabelledImages(pixels, numbers, train.names)
    else:
        loaded = arrays(split)
    if share is not None:
        loaded = partition(loaded, config.partition, share)
    if labels is not None:
        loaded = loaded.select([normal_label(label) for label in labels])
    return LabelledImages(convert_array(loaded.pixels, rules), loaded.labels, loaded.names)


def share_of_part(catalogue: Catalogue, split: Split, config: DataConfig, share: int | None) -> Part:
    """The images of a split that a worker has; all of them for None. Raises DataError."""
    part = catalogue.part(split, config.evaluation)
    if not len(part):
        raise DataError(f"{catalogue.name} has one image of each label and so none to evaluate on; add images")
    if share is None or config.partition.kind == "none":
        return part
    return part.take(share_indices(part.labels, catalogue.labels, config.partition, share))


def scan(source: str, *, root: Path | None = None, labelled: bool = True) -> Catalogue:
    """List a source without decoding its images; arguments and errors as for ``load``."""
    entry = registered(source)
    if isinstance(entry, Path):
        return catalogue_of_packed(entry, source)
    if entry is not None:
        splits: tuple[Literal["train", "eval"], ...] = ("train", "eval")
        loaded = {split: entry(split) for split in splits}
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


def label_names(
    source: str,
    split: Split,
    *,
    root: Path | None = None,
    config: DataConfig | None = None,
    share: int | None = None,
) -> tuple[str, ...]:
    """The labels that a split of a source has, in natural order, without decoding an image.

    Arguments and errors as for ``loading``.
    """
    config = config or DataConfig()
    if share is None and (arrays := arrays_of(source)) is not None:
        return arrays("train" if split == "train" else "eval").names
    catalogue = scan(source, root=root)
    part = (
        share_of_part(catalogue, split, config, share)
        if share is not None
        else catalogue.part(split, config.evaluation)
    )
    return tuple(catalogue.labels[index] for index in np.unique(part.labels).tolist())


def evaluation_split(source: str, *, root: Path | None = None) -> Split:
    """The split of a source that nothing was trained on: all of it, where it has no part to evaluate on.

    For images of another source than a release's; arguments and errors as for ``load``.
    """
    return "eval" if arrays_of(source) or scan(source, root=root, labelled=False).divided else "all"


def give_a_source() -> str:
    """What a source can be, as the end of a message."""
    return f"give {', '.join(SOURCES.names)}, an .npz file or a folder of images"


def registered(source: str) -> Source | None:
    """What is registered under a name; None for a path. Raises DataError where its package cannot be imported."""
    if source not in SOURCES:
        return None
    try:
        return SOURCES[source]
    except ValueError as error:
        raise DataError(str(error)) from None


def arrays_of(source: str) -> Arrays | None:
    """The arrays of a name that is registered with such; None for every other source. Raises as ``registered``."""
    entry = registered(source)
    return None if isinstance(entry, Path) else entry


def locate(source: str, root: Path | None) -> tuple[Path, Path | None]:
    """The source's path and the resolved root that it lies in."""
    if not source or "\0" in source:
        raise DataError(f"{source!r} is no path; {give_a_source()}")
    if root is None:
        return Path(source), None
    base = Path(os.path.realpath(root))
    return held_inside(base / source, base), base
