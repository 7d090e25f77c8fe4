"""Releases: folders that hold all that a prediction needs, and nothing that runs code when it is read.

A release is ``weights.safetensors`` beside ``card.json``. The card holds everything but the weights: architecture,
labels, preprocessing, detector settings, calibration, metrics, how it was trained. The release's id is the digest of
both, so that loading detects a damaged or altered release. Needs numpy only.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fedlmd.release.finite import finite

FORMAT = 3
CARD, WEIGHTS, CURRENT = "card.json", "weights.safetensors", "current"
# What UTF-8 cannot encode, such as a part of a file name that is no text, is written as JSON's own escape.
ESCAPES = "backslashreplace"

Weights = dict[str, np.ndarray]


class ReleaseError(ValueError):
    """A release that is missing, damaged, altered, or of a format that this program does not know."""


@dataclass(frozen=True)
class Release:
    """One release in memory.

    Args:
        id: 12 hexadecimal digits, the digest of card and weights.
        card: the JSON card.
        weights: arrays by name, ``classifier.…`` and ``denoiser.…``, float16 or float32; and ``gaussians.…`` of the
            classifier's embeddings of known images.
    """

    id: str
    card: dict[str, Any]
    weights: Weights


def identify(card: Mapping[str, Any], tensors: bytes) -> str:
    """Digest of a card and its serialised weights: the first 12 hexadecimal digits of SHA-256."""
    text = json.dumps({k: v for k, v in card.items() if k != "id"}, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(hashlib.sha256(tensors).digest() + text.encode(errors=ESCAPES)).hexdigest()[:12]


def save_release(folder: Path, card: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> Path:
    """Write a release into ``folder/<id>``, whole or not at all.

    Args:
        folder: where the releases of a node are kept; made when it is missing.
        card: the JSON card; ``format`` and ``id`` are added.
        weights: arrays by name.

    Returns:
        The release's folder. Saving the same content twice gives the same folder, and repairs a damaged one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = save_tensors({name: np.ascontiguousarray(array) for name, array in weights.items()})
    # Through JSON once, so that the digest is taken of what a reader will see (lists for tuples, strings for keys).
    full: dict[str, Any] = json.loads(json.dumps(finite({**card, "format": FORMAT})))
    full["id"] = identify(full, tensors)
    target: Path = folder / full["id"]
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        write_through(part / WEIGHTS, tensors)
        write_through(part / CARD, (json.dumps(full, indent=2, ensure_ascii=False) + "\n").encode(errors=ESCAPES))
        part.chmod(0o755)
        if not intact(target):
            shutil.rmtree(target, ignore_errors=True)
            os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def intact(path: Path) -> bool:
    """Whether a release can be loaded."""
    try:
        load_release(path)
    except ReleaseError:
        return False
    return True


def load_release(path: Path) -> Release:
    """Read a release and check it against its id.

    Raises:
        ReleaseError: when a file is missing or unreadable, the format is unknown, or the content has another id.
    """
    try:
        card = json.loads((path / CARD).read_bytes())
        tensors = (path / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise ReleaseError(f"{path} is not a release: {Path(error.filename).name} is missing") from None
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path} cannot be read: {error}") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise ReleaseError(f"{path} has not the release format {FORMAT} that this version of fedlmd reads")
    if card.get("id") != identify(card, tensors):
        raise ReleaseError(f"{path} was damaged or altered: its content does not match its id; install it again")
    try:
        return Release(card["id"], card, load_tensors(tensors))
    except SafetensorError as error:
        raise ReleaseError(f"{path / WEIGHTS} is not a safetensors file: {error}") from None
    except KeyError as error:
        raise ReleaseError(f"{path / WEIGHTS} has numbers of a kind that numpy does not know: {error}") from None


def list_releases(folder: Path) -> list[Path]:
    """The releases in a folder, newest first."""
    releases = [path.parent for path in folder.glob(f"*/{CARD}") if not path.parent.name.startswith(".")]
    return sorted(releases, key=lambda path: (path / CARD).stat().st_mtime_ns, reverse=True)


def half(weights: Mapping[str, np.ndarray]) -> Weights:
    """Weights in half precision, as releases hold them; an array with values beyond float16 stays as it is."""
    smaller: Weights = {}
    for name, array in weights.items():
        fits = array.size == 0 or float(np.abs(array).max()) <= float(np.finfo(np.float16).max)
        smaller[name] = array.astype(np.float16) if fits else array
    return smaller


def set_current(folder: Path, release: str) -> None:
    """Make one of a folder's releases the current one.

    Raises:
        ReleaseError: when the folder has no such release.
    """
    names = [path.name for path in list_releases(folder)]
    if release not in names:
        raise ReleaseError(f"there is no release {release!r} here; there are {', '.join(names) or 'none'}")
    part = folder / f".{CURRENT}.part"
    write_through(part, release.encode())
    os.replace(part, folder / CURRENT)


def current_release(folder: Path) -> Path | None:
    """The release of ``set_current``, else the newest, or None when there is none."""
    releases = {path.name: path for path in list_releases(folder)}
    chosen = folder / CURRENT
    name = chosen.read_text(encoding="utf-8") if chosen.exists() else ""
    return releases.get(name) or next(iter(releases.values()), None)


def write_through(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk: a rename must not give an empty file after a power cut."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_arrays(path: Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write arrays as a safetensors file, whole or not at all. Raises OSError; the file is then as before."""
    part = path.with_name(f".{path.name}.part")
    try:
        tensors = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        write_through(part, save_tensors(tensors, dict(metadata) if metadata else None))
        os.replace(part, path)
    finally:
        # On a full disk a part of it may be left.
        part.unlink(missing_ok=True)
