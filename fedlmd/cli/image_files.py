"""From the arguments of ``fedlmd infer`` to image files: files, folders, patterns, lists of paths, standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedlmd.data import DataError, PassedOver
from fedlmd.data.labels import natural
from fedlmd.data.layouts.walk import Walk

STDIN = "-"
"""The argument, and the name in results, of an image that comes by standard input."""

MOST_BYTES = 2**28
"""Largest file that is read: an image of the most pixels, uncompressed, with 16 bits for each of 4 channels, fits."""


@dataclass(frozen=True)
class ImageFile:
    """One image that was asked for.

    Args:
        name: its path as it was given, or ``STDIN``.
        problem: why there is no such image; None where it can be tried.
    """

    name: str
    problem: str | None = None


def image_files(paths: Iterable[str], passed_over: PassedOver, *, patterns: bool = True) -> Iterator[ImageFile]:
    """The images that arguments name, in their order; those of a folder and of a pattern in natural order.

    Args:
        paths: files, folders and patterns.
        passed_over: gets what folders hold beside images.
        patterns: whether ``*``, ``?``, ``[`` and ``**`` are patterns in a path that does not exist.
    """
    for path in paths:
        if os.path.isdir(path):
            yield from images_below(path, passed_over)
        elif path == STDIN or os.path.exists(path):
            yield ImageFile(path)
        elif patterns and glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True), key=natural)
            yield from image_files(matches, passed_over, patterns=False)
            if not matches:
                yield ImageFile(path, "no file matches this pattern")
        else:
            yield ImageFile(path, why_missing(path))


def images_below(folder: str, passed_over: PassedOver) -> Iterator[ImageFile]:
    """The images below a folder; the folder itself with a problem where it has none or cannot be read to its end."""
    walk, problem = Walk(Path(folder), None, passed_over), "the folder holds no image"
    try:
        for entry in walk.below(folder, ()):
            problem = ""
            yield ImageFile(entry.path)
    except DataError as error:
        problem = str(error)
    for table in walk.tables:
        passed_over.add("a table", table.relative)
    if problem:
        yield ImageFile(folder, problem)


def why_missing(path: str) -> str:
    """Why a path leads to nothing."""
    if not path:
        return "an empty path names no file"
    try:
        os.stat(path)
    except FileNotFoundError:
        return "it is a link to a file that does not exist" if os.path.islink(path) else "there is no such file"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except ValueError as error:  # a path with a zero byte
        return f"it is no path: {error}"
    return "there was no such file"


def listed_paths(file: str, null: bool) -> list[str]:
    """The paths that a file lists, one on a line or each ended by a zero byte; empty ones are left out.

    Args:
        file: the list, or ``STDIN`` for standard input.
        null: whether zero bytes separate the paths, as ``find -print0`` and ``git ls-files -z`` write them.
    """
    data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    names = data.split(b"\0") if null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    paths = [os.fsdecode(name) for name in names if name]
    # A list names files alone, so "-" is one too.
    return [os.path.join(os.curdir, path) if path == STDIN else path for path in paths]


def image_bytes(name: str) -> bytes:
    """The content of an image file, or of standard input. Raises DataError."""
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(MOST_BYTES + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise DataError(f"it has more than {MOST_BYTES // 2**20} MiB; scale it down first")
    return data
