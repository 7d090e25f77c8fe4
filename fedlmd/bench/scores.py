"""Scores of one detector on one task, kept in a file, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fedlmd.bench.contenders import Contender
from fedlmd.bench.cost import spent
from fedlmd.data import LabelledImages
from fedlmd.networks import Networks

__all__ = ["Scores", "batches_of", "keep", "kept", "key_of", "score"]

COUNTED = 128
"""Operations are counted on so many images, half of them unknown, or on as few as two of a detector that is dear."""

FEW, MANY, DEAR = 10, 50, 1000
"""Images at once: few of a detector with so many evaluations per image, many otherwise."""


@dataclass(frozen=True)
class Scores:
    """What a detector said, and what that took.

    Args:
        known: scores of the known images (N,).
        unknown: scores of the unknown ones (M,).
        seconds: that the N + M images took, in batches.
        gflop: of one image on average, of a stream that is half known and half unknown.
        evaluations: of the denoiser, likewise.
    """

    known: Float[Tensor, " n"]
    unknown: Float[Tensor, " m"]
    seconds: float
    gflop: float
    evaluations: float

    @property
    def milliseconds(self) -> float:
        """That one image takes in a batch."""
        return 1000 * self.seconds / (len(self.known) + len(self.unknown))


def batches_of(contender: Contender, images: LabelledImages) -> tuple[Tensor, ...]:
    """The positions of the images that are scored at once."""
    return torch.split(torch.arange(len(images)), FEW if contender.evaluations >= DEAR else MANY)


def score(
    contender: Contender, networks: Networks, known: LabelledImages, unknown: LabelledImages
) -> Iterator[int | Scores]:
    """Score all images; yields the number of batches done, and at the end the scores.

    Operations are counted before the clock runs, which also warms up (and fits, where that is put off).
    """
    detector, device = contender.detector, networks.device
    half = max(1, min(COUNTED // 2, len(known), len(unknown), int(DEAR // max(contender.evaluations, 1))))
    stream = torch.cat([images.images(range(half)) for images in (known, unknown)]).to(device)
    detector.score(stream[:1])
    cost = spent(networks, lambda: detector.score(stream), len(stream))
    seconds, done = 0.0, 0
    found: list[Tensor] = []
    for images in (known, unknown):
        parts: list[Tensor] = []
        for chosen in batches_of(contender, images):
            batch = images.images(chosen).to(device)
            start = time.perf_counter()
            parts.append(detector.score(batch).cpu())
            seconds += time.perf_counter() - start
            done += 1
            yield done
        found.append(torch.cat(parts))
    yield Scores(found[0], found[1], seconds, cost.gflop, cost.evaluations)


def key_of(release: str, contender: Contender, known: LabelledImages, unknown: LabelledImages) -> str:
    """Digest of all that scores were made from: release, detector, images."""
    digest = hashlib.sha256(f"{release} {contender.identity}".encode())
    for images in (known, unknown):
        digest.update(repr(images.pixels.shape).encode())
        digest.update(images.pixels.contiguous().numpy().data)
    return digest.hexdigest()


def keep(path: Path, scores: Scores, key: str) -> None:
    """Write scores, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(
            file,
            known=scores.known.numpy(),
            unknown=scores.unknown.numpy(),
            seconds=scores.seconds,
            gflop=scores.gflop,
            evaluations=scores.evaluations,
            key=key,
        )
    os.replace(part, path)


def kept(path: Path, key: str | None = None) -> Scores | None:
    """The scores in a file, or None where there are none, or none that were made from the same things.

    Args:
        path: the file.
        key: what they must have been made from, as ``key_of`` says it; None takes whatever there is.
    """
    try:
        # From memory, so that no file is left open when what it holds is damaged.
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if key is not None and str(file["key"]) != key:
                return None
            known, unknown = (torch.from_numpy(file[name]) for name in ("known", "unknown"))
            return Scores(known, unknown, *(float(file[name]) for name in ("seconds", "gflop", "evaluations")))
    except (BadZipFile, EOFError, KeyError, OSError, ValueError):
        return None
