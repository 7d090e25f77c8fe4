"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from fedlmd import settings
from fedlmd.settings import Settings

__all__ = ["CORES", "JsonFile", "Pretrained", "ReleaseFolder", "SettingsFile", "Threads", "read_settings"]

CORES = os.cpu_count() or 1

SettingsFile = Annotated[Path | None, typer.Option("--settings", help="A run's TOML file; defaults without it.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result as JSON to this file; - prints it.")]
Pretrained = Annotated[bool, typer.Option("--pretrained", help="Take the detector from the shipped release.")]
Threads = Annotated[int, typer.Option(help="Processor cores to use.", min=1)]
ReleaseFolder = Annotated[str, typer.Argument(help="A release's folder, or a shipped one: digits-0-4 or digits-0-9.")]


def read_settings(file: Path | None) -> Settings:
    """A run's settings."""
    return settings.read(file) if file else Settings()
