"""Scores of one detector on one task, stored so that a benchmark that was stopped continues where it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.baselines.factory import MeasuredDetector
from benchmarks.cost import image_cost
from benchmarks.storage import load_arrays, save_arrays
from fedlmd.data import LabelledImages
from fedlmd.models import Networks
from fedlmd.progress import Progress

COUNTED = 128
"""Operations are counted on so many images, half of them unknown, or on as few as two of an expensive detector."""

FEW, MANY, EXPENSIVE = 10, 50, 1000
"""Images in a batch: few for a detector with so many evaluations per image, many otherwise."""


@dataclass(frozen=True)
class Scores:
    """The scores of a detector, and what they took.

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


def batches_of(measured: MeasuredDetector, images: LabelledImages) -> tuple[Tensor, ...]:
    """The positions of the images of each batch."""
    return torch.split(torch.arange(len(images)), FEW if measured.evaluations >= EXPENSIVE else MANY)


def batch_count(measured: MeasuredDetector, *parts: LabelledImages) -> int:
    """How many batches some sets of images are scored in."""
    return sum(len(batches_of(measured, images)) for images in parts)


def score(
    measured: MeasuredDetector,
    networks: Networks,
    images: tuple[LabelledImages, LabelledImages],
    progress: Progress,
) -> Generator[Progress, None, Scores]:
    """Score all images.

    Operations are counted before the clock runs, which also warms up (and fits a ``LazyDetector``).

    Args:
        measured: the detector.
        networks: that it computes with.
        images: known and unknown ones.
        progress: of the stage before; batches of this detector are added to it.
    """
    detector, device = measured.detector, networks.device
    half = min(COUNTED // 2, *(len(part) for part in images), int(EXPENSIVE // max(measured.evaluations, 1)))
    stream = torch.cat([part.images(range(max(1, half))) for part in images]).to(device)
    detector.score(stream[:1])
    cost = image_cost(networks, lambda: detector.score(stream), len(stream))
    seconds, done = 0.0, 0
    scores: list[Tensor] = []
    for part in images:
        batches: list[Tensor] = []
        for chosen in batches_of(measured, part):
            batch = part.images(chosen).to(device)
            start = time.perf_counter()
            batches.append(detector.score(batch).cpu())
            seconds += time.perf_counter() - start
            done += 1
            yield replace(progress, done=progress.done + done)
        scores.append(torch.cat(batches))
    return Scores(scores[0], scores[1], seconds, cost.gflop, cost.evaluations)


def stored_scores(
    path: Path,
    key: str,
    measured: MeasuredDetector,
    networks: Networks,
    images: tuple[LabelledImages, LabelledImages],
    progress: Progress,
) -> Generator[Progress, None, Scores]:
    """The scores in a file that was made from what ``key_of`` names, or made now and stored; see ``score``."""
    scores = load_scores(path, key)
    if scores is None:
        scores = yield from score(measured, networks, images, progress)
        save_scores(path, scores, key)
    yield replace(progress, done=progress.done + batch_count(measured, *images))
    return scores


def key_of(release: str, measured: MeasuredDetector, known: LabelledImages, unknown: LabelledImages) -> str:
    """Digest of all that scores were made from: release, detector, images."""
    digest = hashlib.sha256(f"{release} {measured.identity}".encode())
    for images in (known, unknown):
        digest.update(repr(images.pixels.shape).encode())
        digest.update(images.pixels.contiguous().numpy().data)
    return digest.hexdigest()


def save_scores(path: Path, scores: Scores, key: str) -> None:
    """Write scores, whole or not at all."""
    costs = {"seconds": scores.seconds, "gflop": scores.gflop, "evaluations": scores.evaluations}
    save_arrays(path, key, known=scores.known.numpy(), unknown=scores.unknown.numpy(), **costs)


def load_scores(path: Path, key: str | None = None) -> Scores | None:
    """The scores in a file, or None where there are none, or none that were made from the same things.

    Args:
        path: the file.
        key: what they must have been made from, as ``key_of`` gives it; None accepts any.
    """
    arrays = load_arrays(path, key)
    if arrays is None or not {"known", "unknown", "seconds", "gflop", "evaluations"} <= arrays.keys():
        return None
    known, unknown = (torch.from_numpy(arrays[name]) for name in ("known", "unknown"))
    return Scores(known, unknown, *(float(arrays[name]) for name in ("seconds", "gflop", "evaluations")))
