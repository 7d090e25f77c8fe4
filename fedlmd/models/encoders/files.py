"""The folder of encoders: files of weights that a user has put there. Nothing is downloaded."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from fedlmd.models.encoders.encoder import EncoderError

VARIABLE = "FEDLMD_ENCODERS"
"""The environment variable that names the folder."""

READ = ("*.json", "*.safetensors")
"""What is read of a folder of weights, and so is part of its digest."""


def check_name(name: str) -> None:
    """Refuse what is not the name of a file inside the folder. Raises ValueError."""
    path = PurePosixPath(name)
    if "\\" in name or ":" in name or "\0" in name or path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"weights is {name!r}; it is the name of a file inside the folder of encoders, without '..', drive or URL"
        )


def encoders_folder(folder: Path | None = None) -> Path:
    """The folder of encoders: the given one, else that of FEDLMD_ENCODERS, else ``~/.fedlmd/encoders``."""
    if folder is not None:
        return folder
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".fedlmd" / "encoders"


def located(name: str, folder: Path | None = None) -> Path:
    """The file or folder of this name in the folder of encoders.

    Raises:
        EncoderError: it is missing, or a link leads outside of the folder.
    """
    check_name(name)
    home = encoders_folder(folder).resolve()
    path = (home / name).resolve()
    if not path.is_relative_to(home) or path == home:
        raise EncoderError(f"the weights {name!r} lie outside of the folder of encoders, {home}; copy them into it")
    if not path.exists():
        raise EncoderError(
            f"there are no weights {name!r} in the folder of encoders, {home}; copy them there, or name another folder "
            f"by the environment variable {VARIABLE}; nothing is downloaded"
        )
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file, or of what ``sha256sum *.json *.safetensors`` prints of a folder, sorted by the files' names.

    Raises:
        EncoderError: the file cannot be read, or the folder has no such file.
    """
    try:
        if not path.is_dir():
            return digest_of_file(path, *stamp(path))
        files = sorted((file for pattern in READ for file in path.glob(pattern)), key=lambda file: file.name)
        if not files:
            raise EncoderError(f"the folder {str(path)!r} has no file {' or '.join(READ)}; copy all files of the model")
        lines = "".join(f"{digest_of_file(file, *stamp(file))}  {file.name}\n" for file in files)
    except OSError as error:
        raise EncoderError(f"the weights {str(path)!r} cannot be read: {error.strerror or error}") from error
    return hashlib.sha256(lines.encode()).hexdigest()


def stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in nanoseconds."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=64)
def digest_of_file(path: Path, size: int, changed: int) -> str:  # noqa: ARG001 - a changed file is read again
    """SHA-256 of a file, remembered until the file changes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
