"""The releases of a node, each loaded once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

from fedlmd import artifacts
from fedlmd.answer import Answerer
from fedlmd.service import PRETRAINED, ReleaseSummary, Unavailable, UnknownRelease

__all__ = ["PRETRAINED_FOLDER", "SHIPPED", "Shelf"]

FOLDER = Path(__file__).parent.parent / "pretrained"

PRETRAINED_FOLDER = FOLDER / "digits-0-4"
"""The shipped release that is meant where none is named."""

SHIPPED = {PRETRAINED: PRETRAINED_FOLDER, "digits-0-4": PRETRAINED_FOLDER, "digits-0-9": FOLDER / "digits-0-9"}
"""The folders of the releases that ship with the package, by the names by which they are asked for."""

LOADED_AT_MOST = 4


class Shelf:
    """A node's releases, and the answerers of those asked for lately.

    Args:
        folder: where the node keeps them.
        site: the node's name: answers are calibrated on its own images where a release knows them.
    """

    def __init__(self, folder: Path, site: str | None = None) -> None:
        self.folder, self.site = folder, site
        self.loaded: dict[Path, Answerer] = {}
        self.lock = threading.Lock()

    @property
    def current(self) -> str | None:
        """Id of the current release."""
        found = artifacts.current(self.folder)
        return found.name if found else None

    def find(self, release: str | None) -> Path:
        """The folder of a release; None means the current one, the names of ``SHIPPED`` those.

        Raises:
            Unavailable: when there is no current one.
            UnknownRelease: when none has this id.
        """
        if release in SHIPPED:
            return SHIPPED[release]
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
        return [path.name for path in artifacts.releases(self.folder)] + list(SHIPPED)

    def answerer(self, release: str | None) -> Answerer:
        """The answerer of a release, loaded once."""
        path = self.find(release)
        with self.lock:
            if path not in self.loaded:
                while len(self.loaded) >= LOADED_AT_MOST:
                    del self.loaded[next(iter(self.loaded))]
                self.loaded[path] = Answerer(artifacts.load(path), self.site)
            return self.loaded[path]

    def use(self, release: str) -> None:
        """Make a release the current one; a shipped one is copied to the node first."""
        path = self.find(release)
        if release in SHIPPED:
            shipped = artifacts.load(path)
            path = artifacts.save(self.folder, shipped.card, shipped.weights)
        artifacts.choose(self.folder, path.name)

    def summaries(self) -> list[ReleaseSummary]:
        """All releases, newest first, the shipped ones last."""
        current = self.current
        return [summary(path, current) for path in [*artifacts.releases(self.folder), *dict.fromkeys(SHIPPED.values())]]


def summary(path: Path, current: str | None) -> ReleaseSummary:
    """What is told of a release without answering from it."""
    release = artifacts.load(path)
    return ReleaseSummary(
        id=release.id,
        current=release.id == current and path not in SHIPPED.values(),
        pretrained=path in SHIPPED.values(),
        labels=tuple(release.card["settings"]["labels"]),
        metrics=release.card.get("metrics", {}),
        created=datetime.fromtimestamp((path / "card.json").stat().st_mtime, UTC),
        size=(path / "weights.safetensors").stat().st_size,
    )
