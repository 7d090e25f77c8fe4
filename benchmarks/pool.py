"""The scores of a release on images, stored: whole federations are then drawn from them in milliseconds."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.storage import load_arrays, save_arrays
from fedlmd.data import LabelledImages
from fedlmd.inference import Predictor
from fedlmd.progress import Progress
from fedlmd.release import VERDICT

BATCH = 50


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of one kind, as a release scores them.

    Args:
        scores: of the verdict (N,), higher is further from the known images.
        losses: cross-entropy of each label (N, K), in nats.
        labels: the true label's index (N,); of images of no known label, whatever index they had.
    """

    scores: NDArray[np.float64]
    losses: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.scores)

    def take(self, places: NDArray[np.int64]) -> Pool:
        """Some of the images."""
        return Pool(self.scores[places], self.losses[places], self.labels[places])

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the most probable label is the true one (N,)."""
        return np.asarray(self.losses.argmin(1) == self.labels)

    @property
    def true_losses(self) -> NDArray[np.float64]:
        """Cross-entropy of the true label (N,)."""
        return np.asarray(self.losses[np.arange(len(self)), self.labels])


def score(predictor: Predictor, images: LabelledImages, stage: str) -> Generator[Progress, None, Pool]:
    """Score all images.

    Args:
        predictor: the release.
        images: of the release's size.
        stage: name of the progress.
    """
    scores, losses = [], []
    for chosen in torch.split(torch.arange(len(images)), BATCH):
        logits, by_name = predictor.outputs(images.images(chosen), [VERDICT])
        losses.append(-logits.log_softmax(1))
        scores.append(by_name[VERDICT])
        yield Progress(stage, int(chosen[-1]) + 1, len(images))
    return Pool(torch.cat(scores).double().numpy(), torch.cat(losses).double().numpy(), images.labels.numpy())


def stored_pool(
    path: Path, predictor: Predictor, images: LabelledImages, stage: str
) -> Generator[Progress, None, Pool]:
    """The pool in a file, or the one that is made now and stored in it; see ``score``."""
    key = key_of(predictor, images)
    pool = load_pool(path, key)
    if pool is None:
        pool = yield from score(predictor, images, stage)
        save_pool(path, pool, key)
    return pool


def key_of(predictor: Predictor, images: LabelledImages) -> str:
    """Digest of all that a pool is made from: release, images, labels."""
    digest = hashlib.sha256(f"{predictor.release.id} {tuple(images.pixels.shape)}".encode())
    for part in (images.pixels, images.labels):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def save_pool(path: Path, pool: Pool, key: str) -> None:
    """Write a pool, whole or not at all."""
    save_arrays(path, key, scores=pool.scores, losses=pool.losses, labels=pool.labels)


def load_pool(path: Path, key: str) -> Pool | None:
    """The pool in a file, or None where there is none, or none that was made from the same things."""
    arrays = load_arrays(path, key)
    if arrays is None or not {"scores", "losses", "labels"} <= arrays.keys():
        return None
    return Pool(arrays["scores"], arrays["losses"], arrays["labels"])
