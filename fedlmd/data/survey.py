"""What a source holds: labels and counts, what would be passed over, and what a sample of its images looks like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedlmd.data.catalogue import Catalogue, PassedOver
from fedlmd.data.config import DataConfig
from fedlmd.data.decoding import DAMAGED
from fedlmd.data.facts import Facts, Look, facts_of, look
from fedlmd.data.images import DataError
from fedlmd.data.sources import scan

SAMPLE = 400
"""Images that are looked at."""


@dataclass(frozen=True)
class Survey:
    """What a source holds. Numbers and names, no image.

    Args:
        source: as messages name it.
        labels: how many images each label has to train and to evaluate on.
        facts: what a sample of the images looks like.
        notes: what was guessed, changed or passed over, one sentence each.
    """

    source: str
    labels: dict[str, dict[str, int]]
    facts: Facts
    notes: tuple[str, ...] = ()


def survey(source: str, *, root: Path | None = None, config: DataConfig | None = None, sample: int = SAMPLE) -> Survey:
    """Look at a source without loading it: every name, and a seeded sample of the images.

    Args:
        source: as for ``load``, and so are ``root`` and ``config``.
        root: the data root.
        config: gives ``evaluation`` and ``strict``.
        sample: at most so many images are decoded.

    Raises:
        DataError: the source cannot be used; none of the sample can be decoded; something would be passed over
            although ``config.strict``.
    """
    config = config or DataConfig()
    catalogue = scan(source, root=root)
    catalogue.missed(strict=config.strict)
    looks, damaged = looks_of(catalogue, sample)
    if not looks:
        raise DataError(f"{catalogue.name} has no image that can be decoded: {'; '.join(damaged.sentences())}")
    return Survey(
        catalogue.name,
        counts(catalogue, config.evaluation),
        facts_of(looks),
        (
            *catalogue.notes,
            *division_note(catalogue, config),
            *catalogue.passed_over.sentences(),
            *(f"{sentence}, among {len(looks) + len(damaged):,} looked at" for sentence in damaged.sentences()),
        ),
    )


def looks_of(catalogue: Catalogue, sample: int) -> tuple[list[Look], PassedOver]:
    """What a seeded sample of a source's images looks like, and those that cannot be decoded."""
    damaged, looks = PassedOver(), list[Look]()
    images = catalogue.part("all", 0.0)
    for index in np.sort(np.random.default_rng(0).permutation(len(images))[:sample]).tolist():
        try:
            looks.append(look(images.raw(index)))
        except DataError as error:
            damaged.add(f"{DAMAGED} ({error})", images.name(index))
    return looks, damaged


def counts(catalogue: Catalogue, evaluation: float) -> dict[str, dict[str, int]]:
    """How many images each label has to train and to evaluate on."""
    size = len(catalogue.labels)
    train, held = (
        np.bincount(catalogue.part(split, evaluation).labels, minlength=size).tolist() for split in ("train", "eval")
    )
    return {label: {"train": train[index], "eval": held[index]} for index, label in enumerate(catalogue.labels)}


def division_note(catalogue: Catalogue, config: DataConfig) -> list[str]:
    """That a part to evaluate on is split off, where the source has none."""
    if catalogue.divided:
        return []
    return [
        f"there is no part to evaluate on: {config.evaluation:.0%} of each label are split off for it, the same images "
        "in every run (data.evaluation)"
    ]
