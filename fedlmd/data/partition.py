"""Which worker holds which images: by lists of labels, in equal random shares, or skewed by a Dirichlet draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64

from fedlmd.choices import between, one_of
from fedlmd.data.catalogue import held_out
from fedlmd.data.images import DataError, LabelledImages, check_labels
from fedlmd.data.labels import normal_label

PartitionKind = Literal["none", "labels", "iid", "dirichlet"]


@dataclass(frozen=True)
class PartitionConfig:
    """How a data set is divided among workers.

    Args:
        kind: one of

            - ``none``: not at all, each worker has the whole of its source;
            - ``labels``: each worker has the labels of its list; workers that list the same label share its images;
            - ``iid``: shuffled shares of equal size;
            - ``dirichlet``: each label is divided in proportions drawn from Dir(alpha) (Yurochkin et al. 2019).
        workers: number of workers, 1 or more.
        lists: for ``labels``, the labels of each worker.
        alpha: for ``dirichlet``, concentration above 0: 0.1 gives nearly each label to one worker, 100 is nearly iid.
        seed: 0 or more; all workers of a run need the same.

    Raises:
        ValueError: a value is out of range.
    """

    kind: PartitionKind = "none"
    workers: int = 1
    lists: tuple[tuple[str, ...], ...] = ()
    alpha: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        one_of(self, PartitionKind, "kind")
        object.__setattr__(self, "lists", tuple(tuple(map(normal_label, labels)) for labels in self.lists))
        between(self, 1, math.inf, "workers")
        between(self, 0, math.inf, "alpha", open_low=True)
        between(self, 0, math.inf, "seed")
        if self.kind == "labels" and len(self.lists) != self.workers:
            raise ValueError(f"{self.workers} workers need {self.workers} lists of labels, not {len(self.lists)}")
        if self.kind == "labels" and not all(self.lists):
            raise ValueError(f"each worker needs at least one label, but worker {self.lists.index(())}'s list is empty")


def partition(dataset: LabelledImages, config: PartitionConfig, worker: int) -> LabelledImages:
    """One worker's share of a data set.

    The same data set and configuration give the same division on every machine, without communication: no
    image is in two shares, and together the shares hold every image (for ``labels``: every image of a listed label).

    Args:
        dataset: the whole data set, the same for every worker.
        config: how it is divided.
        worker: whose share, 0 to ``config.workers - 1``.

    Returns:
        The share, in the order of the data set and under all of its names.

    Raises:
        DataError: there is no such worker, its share is empty, or a list names an unknown label.
    """
    return dataset.take(share_indices(dataset.labels.numpy(), dataset.names, config, worker))


def share_indices(
    labels: Int64[np.ndarray, " n"], names: Sequence[str], config: PartitionConfig, worker: int
) -> Int64[np.ndarray, " m"]:
    """Positions of one worker's images, by the labels of all; arguments and errors as for ``partition``.

    Which worker has an image depends on its label and position, not on its pixels.
    """
    if not 0 <= worker < config.workers:
        raise DataError(f"there is no worker {worker}; the partition has workers 0 to {config.workers - 1}")
    if config.kind == "none":
        return np.arange(len(labels))
    share = np.flatnonzero(owners(labels, names, config) == worker)
    if not len(share):
        raise DataError(f"worker {worker}'s share has no image; use fewer workers, more images or a larger alpha")
    return share


def owners(labels: Int64[np.ndarray, " n"], names: Sequence[str], config: PartitionConfig) -> Int64[np.ndarray, " n"]:
    """The worker of each image, or -1: as an image has one worker, shares cannot overlap."""
    owners = np.full(len(labels), -1, dtype=np.int64)
    if config.kind == "iid":
        owners[np.random.default_rng(config.seed).permutation(len(labels))] = np.arange(len(labels)) % config.workers
        return owners
    for labels_of_worker in config.lists if config.kind == "labels" else ():
        check_labels(labels_of_worker, names)
    for index, name in enumerate(names):
        # One stream for each label, so that the division of one label does not depend on the others.
        rng = np.random.default_rng([config.seed, index])
        members = rng.permutation(np.flatnonzero(labels == index))
        if config.kind == "dirichlet":
            owners[members] = dirichlet_owners(len(members), config, rng)
        elif sharing := [worker for worker, listed in enumerate(config.lists) if name in listed]:
            owners[members] = np.resize(np.array(sharing), len(members))
    return owners


def dirichlet_owners(count: int, config: PartitionConfig, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """The workers of ``count`` images, in proportions drawn from Dir(alpha)."""
    proportions = rng.dirichlet(np.full(config.workers, config.alpha))
    ends = np.round(np.cumsum(proportions)[:-1] * count)
    return np.searchsorted(ends, np.arange(count), side="right").astype(np.int64)


def split_held_back(dataset: LabelledImages, fraction: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
    """Divide into a part to train on and a part held back for calibration, label by label.

    Args:
        dataset: what to divide.
        fraction: share of each label that is held back, 0 to below 1, rounded to whole images. Every label keeps at
            least one image to train on.
        seed: 0 or more; the same seed holds back the same images.

    Returns:
        The training part and the held-back part: no image in common, the order of the data set kept in both.

    Raises:
        DataError: the fraction is out of range.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"the held-back fraction must be 0 to below 1, not {fraction}")
    held = held_out(dataset.labels.numpy(), fraction, least=0, seed=seed)
    return dataset.take(np.flatnonzero(~held)), dataset.take(np.flatnonzero(held))
