"""The releases of a node, each loaded once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from fedlmd import artifacts
from fedlmd.answer import Answerer
from fedlmd.service import PRETRAINED, ReleaseSummary, Unavailable, UnknownRelease

__all__ = ["PRETRAINED_FOLDER", "Shelf"]

PRETRAINED_FOLDER = Path(__file__).parent.parent / "pretrained" / "digits-0-4"
"""The release that ships with the package."""

LOADED_AT_MOST = 4


class Shelf:
    """A node's releases, and the answerers of those asked for lately.

    Args:
        folder: where the node keeps them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loaded: dict[Path, Answerer] = {}
        self.lock = threading.Lock()

    @property
    def current(self) -> str | None:
        """Id of the current release."""
        found = artifacts.current(self.folder)
        return found.name if found else None

    def find(self, release: str | None) -> Path:
        """The folder of a release; None means the current one, "pretrained" the shipped one.

        Raises:
            Unavailable: when there is no current one.
            UnknownRelease: when none has this id.
        """
        if release == PRETRAINED:
            return PRETRAINED_FOLDER
        if release is None:
            found = artifacts.current(self.folder)
            if found is None:
                raise Unavailable("this node has no release yet; train first, or ask with release=pretrained")
            return found
        for path in artifacts.releases(self.folder):
            if path.name == release:
                return path
        raise UnknownRelease(f"there is no release {release!r} at this node; there are {', '.join(self.ids())}")

    def ids(self) -> list[str]:
        """What can be asked for."""
        return [path.name for path in artifacts.releases(self.folder)] + [PRETRAINED]

    def answerer(self, release: str | None) -> Answerer:
        """The answerer of a release, loaded once."""
        path = self.find(release)
        with self.lock:
            if path not in self.loaded:
                while len(self.loaded) >= LOADED_AT_MOST:
                    del self.loaded[next(iter(self.loaded))]
                self.loaded[path] = Answerer(artifacts.load(path))
            return self.loaded[path]

    def use(self, release: str) -> None:
        """Make a release the current one; the shipped one is copied to the node first."""
        path = self.find(release)
        if release == PRETRAINED:
            shipped = artifacts.load(path)
            path = artifacts.save(self.folder, shipped.card, shipped.weights)
        artifacts.choose(self.folder, path.name)

    def summaries(self) -> list[ReleaseSummary]:
        """All releases, newest first, the shipped one last."""
        current = self.current
        return [summary(path, current) for path in [*artifacts.releases(self.folder), PRETRAINED_FOLDER]]


def summary(path: Path, current: str | None) -> ReleaseSummary:
    """What is told of a release without answering from it."""
    release = artifacts.load(path)
    return ReleaseSummary(
        id=release.id,
        current=release.id == current and path != PRETRAINED_FOLDER,
        pretrained=path == PRETRAINED_FOLDER,
        labels=tuple(release.card["settings"]["labels"]),
        metrics=release.card.get("metrics", {}),
        created=datetime.fromtimestamp((path / "card.json").stat().st_mtime, UTC),
        size=(path / "weights.safetensors").stat().st_size,
    )
