"""Releases: folders of weights and a card. Needs numpy only."""

from fedlmd.release.finite import finite
from fedlmd.release.self_test import LOGITS, VERDICT, SelfTest, dissenting, patterns
from fedlmd.release.shipped import PRETRAINED_FOLDER, SHIPPED
from fedlmd.release.store import (
    Release,
    ReleaseError,
    Weights,
    current_release,
    half,
    list_releases,
    load_release,
    save_release,
    set_current,
    write_arrays,
)

__all__ = [
    "LOGITS",
    "PRETRAINED_FOLDER",
    "SHIPPED",
    "VERDICT",
    "Release",
    "ReleaseError",
    "SelfTest",
    "Weights",
    "current_release",
    "dissenting",
    "finite",
    "half",
    "list_releases",
    "load_release",
    "patterns",
    "save_release",
    "set_current",
    "write_arrays",
]
