"""Intermediate results in files, so that a benchmark that was stopped continues where it was; and its progress."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike

from fedlmd.progress import Progress

T = TypeVar("T")

Steps = Generator[Progress, None, dict[str, Any]]
"""A measurement: yields its progress and returns what JSON takes."""


def save_arrays(path: Path, key: str, **arrays: ArrayLike) -> None:
    """Write arrays to an .npz file, whole or not at all.

    Args:
        path: the file.
        key: digest of everything that the arrays were made from.
        **arrays: by name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        content: dict[str, Any] = {name: np.asarray(array) for name, array in {**arrays, "key": key}.items()}
        np.savez(file, **content)
    os.replace(part, path)


def load_arrays(path: Path, key: str | None = None) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None where there is none, it is damaged, or its arrays were made from something else.

    Args:
        path: the file.
        key: what they must have been made from; None accepts any.
    """
    try:
        # From memory, so that no file stays open when its content is damaged.
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays if key in (None, str(arrays.pop("key"))) else None
    except (BadZipFile, EOFError, KeyError, OSError, ValueError):
        return None


def save_json(file: Path, content: object) -> None:
    """Write a result as JSON; its folder is made when it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, file)


def load_json(file: Path) -> Any:  # noqa: ANN401 - JSON
    """The content of a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def stored(file: Path, work: Callable[[], Generator[Progress, None, object]]) -> Generator[Progress, None, Any]:
    """The content of a JSON file, which is made first where it does not exist.

    Args:
        file: the file.
        work: returns its content.
    """
    if not file.exists():
        save_json(file, (yield from work()))
    return load_json(file)


def prefixed(prefix: str, work: Generator[Progress, None, T]) -> Generator[Progress, None, T]:
    """The same work, with a prefix before the names of its stages."""
    while True:
        try:
            step = next(work)
        except StopIteration as stop:
            result: T = stop.value
            return result
        yield replace(step, stage=f"{prefix} {step.stage}")
