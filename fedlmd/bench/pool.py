"""Images that were answered once, and kept: whole federations are then drawn from their scores in milliseconds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from fedlmd.answer import VERDICT, Answerer
from fedlmd.data import LabelledImages

__all__ = ["Pool", "keep", "kept", "key_of", "score"]

BATCH = 50


@dataclass(frozen=True, eq=False)
class Pool:
    """Images of one kind, as a release sees them.

    Args:
        scores: of the verdict (N,), higher is stranger.
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
        found: NDArray[np.bool_] = self.losses.argmin(1) == self.labels
        return found

    @property
    def true_losses(self) -> NDArray[np.float64]:
        """Cross-entropy of the true label (N,)."""
        found: NDArray[np.float64] = self.losses[np.arange(len(self)), self.labels]
        return found


@torch.inference_mode()
def score(answerer: Answerer, images: LabelledImages) -> Iterator[int | Pool]:
    """Answer all images; yields how many are done, and at the end the pool."""
    scores, losses = [], []
    for chosen in torch.split(torch.arange(len(images)), BATCH):
        batch = images.images(chosen).to(answerer.networks.device)
        logits = answerer.networks.classifier(batch).cpu()
        losses.append(-logits.log_softmax(1))
        scores.append(answerer.scores(batch, [VERDICT])[VERDICT])
        yield int(chosen[-1]) + 1
    yield Pool(torch.cat(scores).double().numpy(), torch.cat(losses).double().numpy(), images.labels.numpy())


def key_of(answerer: Answerer, images: LabelledImages) -> str:
    """Digest of all that a pool is made from: release, images, labels."""
    digest = hashlib.sha256(f"{answerer.release.id} {tuple(images.pixels.shape)}".encode())
    for part in (images.pixels, images.labels):
        digest.update(part.contiguous().numpy().data)
    return digest.hexdigest()


def keep(path: Path, pool: Pool, key: str) -> None:
    """Write a pool, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, scores=pool.scores, losses=pool.losses, labels=pool.labels, key=key)
    os.replace(part, path)


def kept(path: Path, key: str) -> Pool | None:
    """The pool in a file, or None where there is none, or none that was made from the same things."""
    try:
        # From memory, so that no file is left open when what it holds is damaged.
        with np.load(BytesIO(path.read_bytes()), allow_pickle=False) as file:
            same = str(file["key"]) == key
            return Pool(file["scores"], file["losses"], file["labels"]) if same else None
    except (BadZipFile, EOFError, KeyError, OSError, ValueError):
        return None
