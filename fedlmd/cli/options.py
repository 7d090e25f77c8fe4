"""Options and arguments that several commands share. Imports nothing that takes long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fedlmd.settings import Settings

CORES = os.cpu_count() or 1

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A run's TOML file; defaults without it.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file; - prints it.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Take the detector from the shipped release.")]
Labels = Annotated[str, typer.Option(help="Labels to learn, comma separated; the settings' without it.")]
Alpha = Annotated[float | None, typer.Option(help="False-alarm rate, in (0, 1); the release's without it.")]
Threads = Annotated[int, typer.Option(help="Processor cores to use.", min=1)]
ReleaseFolder = Annotated[str, typer.Argument(help="A release's folder, or a shipped one: digits-0-4 or digits-0-9.")]
Source = Annotated[str, typer.Argument(help="mnist, an .npz file or a folder.")]


def read_settings(file: Path | None, labels: str = "") -> Settings:
    """A run's settings, from a file or the defaults, with other labels where they are given."""
    from fedlmd.settings import Settings, read

    settings = read(file) if file else Settings()
    return settings.with_labels(tuple(labels.split(","))) if labels else settings
