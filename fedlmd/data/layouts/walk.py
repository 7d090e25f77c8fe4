"""The image files below a folder, and the catalogue that is made of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np

from fedlmd.data.catalogue import OF_THE_SYSTEM, Catalogue, FilesPart, Part, PassedOver, is_image, numbered
from fedlmd.data.dicom import is_dicom
from fedlmd.data.images import DataError
from fedlmd.data.labels import natural
from fedlmd.data.layouts.splits import Split, arranged

SYSTEM = frozenset(
    {"@eadir", "lost+found", "__macosx", "$recycle.bin", "#recycle", "system volume information"}
    | {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "dicomdir"}
)
"""Folders and files that systems, network drives and scanners make, in lower case; so are names with a leading dot."""

DEPTH = 12
"""How many folders deep images are looked for."""

READ_TWICE = "a link to a file or folder that is read already"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file.

    Args:
        path: by which it is read, links resolved where there is a data root.
        parts: names of the folders that lead to it, from the source's folder on, and its own.
    """

    path: str
    parts: tuple[str, ...]

    @property
    def relative(self) -> str:
        """The path from the source's folder on, with slashes."""
        return "/".join(self.parts)


@final
@dataclass
class Walk:
    """All image files below a folder, in natural order; what is passed over is counted.

    Args:
        folder: where to begin.
        base: the data root, resolved: links that lead outside of it are refused; None follows every link.
        passed_over: gets files that are no images, empty folders, and folders of the system.

    Attributes:
        tables: files that may be tables of labels.
        problems: why such tables are not used; for messages about images without labels.
    """

    folder: Path
    base: Path | None
    passed_over: PassedOver = field(default_factory=PassedOver)

    def __post_init__(self) -> None:
        self.source = Path(os.path.realpath(self.folder))
        self.visited: set[str] = set()
        self.linked: set[str] = set()
        self.tables: list[Entry] = []
        self.problems: list[str] = []

    def entries(self) -> list[Entry]:
        """The image files."""
        return list(self.below(str(self.folder), ()))

    def below(self, folder: str, parts: tuple[str, ...]) -> Iterator[Entry]:
        """The image files of a folder, then those of its folders."""
        self.visited.add(os.path.realpath(folder))
        files, folders = self.listed(folder)
        if parts and not files and not folders:
            self.passed_over.add("an empty folder", "/".join(parts))
        for name in sorted(files, key=natural):
            entry = Entry(files[name], (*parts, name))
            if is_image(name) or looks_like_dicom(entry):
                yield entry
            elif name.casefold().endswith((".csv", ".tsv")):
                self.tables.append(entry)
            else:
                self.passed_over.add(f"no image by its name ({Path(name).suffix or 'no suffix'})", entry.relative)
        for name in sorted(folders, key=natural):
            if len(parts) >= DEPTH:
                self.passed_over.add(f"more than {DEPTH} folders deep", "/".join((*parts, name)))
            elif os.path.realpath(folders[name]) in self.visited:
                self.passed_over.add(READ_TWICE, "/".join((*parts, name)))
            else:
                yield from self.below(folders[name], (*parts, name))

    def read_twice(self, link: str) -> bool:
        """Whether what a link leads to is read at its own place, is read by another link, or holds the source."""
        target, source = Path(os.path.realpath(link)), self.source
        if target.is_relative_to(source):
            return not any(of_the_system(name) for name in target.relative_to(source).parts)
        linked = str(target) in self.linked
        self.linked.add(str(target))
        return linked or source.is_relative_to(target)

    def listed(self, folder: str) -> tuple[dict[str, str], dict[str, str]]:
        """Files and folders of a folder by name, without those of the system."""
        files: dict[str, str] = {}
        folders: dict[str, str] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda entry: natural(entry.name)):
                    if of_the_system(entry.name):
                        self.passed_over.add(OF_THE_SYSTEM, entry.name)
                        continue
                    path = self.resolved(entry)
                    if entry.is_symlink() and os.path.exists(path) and self.read_twice(path):
                        self.passed_over.add(READ_TWICE, entry.name)
                    elif os.path.isdir(path):
                        folders[entry.name] = path
                    elif os.path.isfile(path):
                        files[entry.name] = path
                    else:
                        self.passed_over.add("neither a file nor a folder, such as a broken link", entry.name)
        except OSError as error:
            raise DataError(f"{folder} cannot be listed: {error.strerror}") from error
        return files, folders

    def resolved(self, entry: os.DirEntry[str]) -> str:
        """The path of an entry; a link is followed only inside the data root."""
        if self.base is None or not entry.is_symlink():
            return entry.path
        return str(held_inside(Path(entry.path), self.base))


def of_the_system(name: str) -> bool:
    """Whether a file or folder is one of the system, or hidden."""
    return name.startswith(".") or name.casefold() in SYSTEM


def looks_like_dicom(entry: Entry) -> bool:
    """Whether a file without a suffix is a DICOM file; names of such files often end with a number of their own."""
    if not re.fullmatch("(\\.[0-9]*)?", Path(entry.parts[-1]).suffix):
        return False
    try:
        with open(entry.path, "rb") as file:
            return is_dicom(file.read(132))
    except OSError:
        return False


def held_inside(path: Path, base: Path) -> Path:
    """The path with its links resolved, refused when they lead out of the root. Raises DataError."""
    try:
        resolved = Path(os.path.realpath(path))
    except ValueError as error:  # a character that no path has
        raise DataError(f"{str(path)!r} is no path") from error
    if not resolved.is_relative_to(base):
        raise DataError(f"{str(path)!r} leads outside the data root; give a path inside it")
    return resolved


Labelled = Mapping[str, list[tuple[Entry, str]]]
"""Images with the names of their labels, by part: "train", "val", "eval" and "all"."""


def assembled(name: object, labelled: Labelled, passed_over: PassedOver, notes: list[str]) -> Catalogue:
    """The catalogue of images with names of labels. Raises DataError where there is nothing to train on."""
    by_split = arranged(name, labelled, lambda parts: [image for part in parts for image in part], notes)
    labels, numbers, more = numbered([label for part in by_split.values() for _, label in part])
    parts: dict[Split, Part] = {
        split: FilesPart(
            [entry.path for entry, _ in part], np.array([numbers[label] for _, label in part], dtype=np.int64)
        )
        for split, part in by_split.items()
    }
    return Catalogue(str(name), labels, parts, passed_over, (*notes, *more))
