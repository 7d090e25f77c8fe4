"""Options and arguments that several commands share. Imports nothing that takes long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedlmd.node.cores import available_cores

if TYPE_CHECKING:
    from fedlmd.release import Release
    from fedlmd.settings import Settings

CORES = available_cores()

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A run's TOML file; defaults without it.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file; - prints it.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Take the detector from the shipped release.")]
Labels = Annotated[
    str,
    typer.Option(
        help="Labels to learn, comma separated; the settings' without it. A label that holds a comma is given in TOML."
    ),
]
Alpha = Annotated[float | None, typer.Option(help="False-alarm rate, in (0, 1); the release's without it.")]
Threads = Annotated[int, typer.Option(help="Processor cores to use.", min=1)]
ReleaseFolder = Annotated[str, typer.Argument(help="A release's folder, or a shipped one: digits-0-4 or digits-0-9.")]
Source = Annotated[str, typer.Argument(help="mnist, sign-digits, an .npz file or a folder.")]


def read_settings(file: Path | None, labels: str = "") -> Settings:
    """A run's settings, from a file or the defaults, with other labels where they are given."""
    from fedlmd.settings import Settings, read

    settings = read(file) if file else Settings()
    return settings.with_labels(tuple(listed_labels(labels))) if labels else settings


def listed_labels(text: str) -> list[str]:
    """The labels of a list with commas, which may have spaces after them."""
    return [label.strip() for label in text.split(",") if label.strip()]


def open_release(release: str) -> Release:
    """The release that an argument names: a shipped one or a folder."""
    from fedlmd.release import SHIPPED, load_release

    return load_release(SHIPPED.get(release, Path(release)))
