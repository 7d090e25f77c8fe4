"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

RESULTS = Path("benchmarks/results")
"""Folder of the results that the tables of README and docs are made from."""

Pictures = Annotated[Path | None, typer.Option(help="Folder for pictures as PNG.")]
DataFiles = Annotated[
    list[str] | None, typer.Option("--data", help="NAME=FILE.npz for usps, fashion or notmnist; may be repeated.")
]
Images = Annotated[int | None, typer.Option(help="At most so many images of each kind; all of them without it.", min=1)]


def pairs(options: Sequence[str] | None) -> list[tuple[str, Path]]:
    """NAME=PATH as name and path.

    Raises:
        ValueError: when one has another form.
    """
    parsed = []
    for text in options or []:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise ValueError(f"{text!r} is not NAME=PATH")
        parsed.append((name, Path(path)))
    return parsed
