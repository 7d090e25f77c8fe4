"""The releases of a node, each loaded once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from fedlmd.inference import Predictor
from fedlmd.release import SHIPPED, current_release, list_releases, load_release, save_release, set_current
from fedlmd.service.contract import Unavailable, UnknownRelease
from fedlmd.service.schema import ReleaseSummary

LOADED_AT_MOST = 4
"""Number of releases that are held in memory."""


class LoadedReleases:
    """A node's releases, and the predictors of those used lately. Implements ``fedlmd.service.contract.Releases``.

    Args:
        folder: of the releases.
        worker: the node's name; see ``Predictor``.
    """

    def __init__(self, folder: Path, worker: str | None = None) -> None:
        self.folder, self.lock = folder, threading.Lock()
        self.load = lru_cache(LOADED_AT_MOST)(lambda path: Predictor(load_release(path), worker))

    @property
    def current(self) -> str | None:
        """Id of the current release."""
        folder = current_release(self.folder)
        return folder.name if folder else None

    def find(self, release: str | None) -> Path:
        """The folder of a release, given by its id or by a name of ``SHIPPED``; None means the current one.

        Raises:
            Unavailable: when there is no current one.
            UnknownRelease: when none has this id.
        """
        if release in SHIPPED:
            return SHIPPED[release]
        if release is None:
            current = current_release(self.folder)
            if current is None:
                raise Unavailable("this node has no release yet; train first, or ask with release=pretrained")
            return current
        paths = {path.name: path for path in list_releases(self.folder)}
        if release not in paths:
            known = ", ".join([*paths, *SHIPPED])
            raise UnknownRelease(f"there is no release {release!r} at this node; there are {known}")
        return paths[release]

    def predictor(self, release: str | None) -> Predictor:
        """The predictor of a release, loaded once."""
        path = self.find(release)
        with self.lock:
            return self.load(path)

    def use(self, release: str) -> None:
        """Make a release the current one; a shipped one is copied to the node first."""
        path = self.find(release)
        if release in SHIPPED:
            shipped = load_release(path)
            path = save_release(self.folder, shipped.card, shipped.weights)
        set_current(self.folder, path.name)

    def list(self) -> list[ReleaseSummary]:
        """All releases, newest first, the shipped ones last."""
        current = self.current
        mine = [summary(path, pretrained=False, current=path.name == current) for path in list_releases(self.folder)]
        return mine + [summary(path, pretrained=True) for path in dict.fromkeys(SHIPPED.values())]


def summary(path: Path, *, pretrained: bool, current: bool = False) -> ReleaseSummary:
    """Summary of a release from its card; no network is built."""
    release = load_release(path)
    return ReleaseSummary(
        id=release.id,
        current=current,
        pretrained=pretrained,
        labels=release.card["settings"]["labels"],
        metrics=release.card.get("metrics", {}),
        created=datetime.fromtimestamp((path / "card.json").stat().st_mtime, UTC),
        size=(path / "weights.safetensors").stat().st_size,
    )
