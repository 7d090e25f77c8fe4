"""The Sign Language Digits that ship with the package: photographs of hands, as image files in one ZIP archive."""

from __future__ import annotations

from pathlib import Path
from typing import final
from zipfile import ZipFile

import numpy as np
from jaxtyping import Int64

from fedlmd.data.catalogue import Catalogue, Part, numbered
from fedlmd.data.formats import Raw

__all__ = ["SIGN_DIGITS", "PackedPart", "catalogue_of_packed"]

SIGN_DIGITS = Path(__file__).parent / "sign_digits.zip"
"""2,062 WebP files of 100 x 100 pixels, ``LABEL/FILE``; see NOTICE.md."""


@final
class PackedPart(Part):
    """Image files of a ZIP archive, in memory.

    Args:
        source: how messages name the archive.
        files: by name, in order.
        labels: of the files.
    """

    def __init__(self, source: str, files: dict[str, bytes], labels: Int64[np.ndarray, " n"]) -> None:
        super().__init__(labels)
        self.source, self.names, self.files = source, list(files), list(files.values())

    def raw_of(self, row: int) -> Raw:
        """The bytes of a file."""
        return self.files[row]

    def name_of(self, row: int) -> str:
        """The archive and the file in it."""
        return f"{self.source}, {self.names[row]}"


def catalogue_of_packed(path: Path, name: str) -> Catalogue:
    """List a ZIP archive of image files ``LABEL/FILE`` that an installed package ships."""
    with ZipFile(path) as archive:
        files = {file: archive.read(file) for file in archive.namelist()}
    labels, numbers, notes = numbered([file.split("/")[0] for file in files])
    indices = np.array([numbers[file.split("/")[0]] for file in files], dtype=np.int64)
    return Catalogue(name, labels, {"all": PackedPart(name, files, indices)}, notes=tuple(notes))
