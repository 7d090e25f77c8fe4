"""The releases that ship with the package."""

from __future__ import annotations

from pathlib import Path

PRETRAINED = "pretrained"
"""The name of the shipped release that is the default."""

FOLDER = Path(__file__).parent / "pretrained"
PRETRAINED_FOLDER = FOLDER / "digits-0-4"

SHIPPED = {PRETRAINED: PRETRAINED_FOLDER, "digits-0-4": PRETRAINED_FOLDER, "digits-0-9": FOLDER / "digits-0-9"}
"""The folders of the releases that ship with the package, by name."""
