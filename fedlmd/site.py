"""A site: where its images are, and how they are divided into training, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fedlmd.data import DataError, LabelledImages, Split, label_names, load, partition, split_held_back
from fedlmd.settings import DataConfig, Settings

__all__ = ["Site", "SiteImages"]


@dataclass(frozen=True)
class SiteImages:
    """A site's images, no image in two of the three.

    Args:
        training: what the networks learn from.
        held_back: what the detector is calibrated on.
        evaluation: what accuracy is measured on.
    """

    training: LabelledImages
    held_back: LabelledImages
    evaluation: LabelledImages


@dataclass(frozen=True)
class Site:
    """Where a site's images are.

    Args:
        name: the site's name in logs, metrics and releases.
        data: its source and its share of it.
        worker: which share, from 0.
        root: the folder that paths in requests must stay in; None allows any.
        releases: the folder that releases are installed in; None for a site that keeps none.
        memory: the folder of what it keeps from round to round; None keeps that in its process alone.
        load: what loads a source, as ``fedlmd.data.load`` does.
    """

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    worker: int = 0
    root: Path | None = None
    releases: Path | None = None
    memory: Path | None = None
    load: Callable[..., LabelledImages] = field(default=load, repr=False, compare=False)

    def images(
        self, settings: Settings, *, training: str | None = None, evaluation: str | None = None, complete: bool = False
    ) -> SiteImages:
        """Load what the site has of a run's labels; class indices are the run's.

        Args:
            settings: labels, image size, channels and seed of the run.
            training: another source to train on than the site's own.
            evaluation: another source to evaluate on.
            complete: refuse when a label has no image here. In a federation a site may lack some labels.

        Raises:
            DataError: when a source cannot be read, or lacks all of the labels, or one that must be there.
        """
        own = self.split(settings, "train", training or self.data.source, complete)
        judged = self.split(settings, "eval", evaluation or training or self.data.source, complete)
        kept, held_back = split_held_back(own, self.data.held_back, settings.seed)
        return SiteImages(kept, held_back, judged)

    def split(self, settings: Settings, which: Split, source: str, complete: bool = False) -> LabelledImages:
        """One split of a source, cut down to the run's labels and, of the site's own source, to the site's share."""
        divided = source == self.data.source and self.data.partition.kind != "none"
        form = {"image_size": settings.image_size, "channels": settings.channels, "root": self.root}
        if divided:
            # A source is divided whole, so that the shares are the same whatever labels a run asks for.
            images = partition(self.load(source, which, **form), self.data.partition, self.worker)
            held = torch.unique(images.labels).tolist()
            there = tuple(name for index, name in enumerate(images.names) if index in held)
        else:
            # A run that has no label in common with the source is refused by ``load``, which names what there is.
            there = label_names(source, which, root=self.root)
            listed = [label for label in settings.labels if label in there]
            images = self.load(source, which, **form, labels=listed or settings.labels)
        missing = [label for label in settings.labels if label not in there]
        if missing and (complete or len(missing) == len(settings.labels)):
            raise DataError(f"label {missing[0]!r} has no image at {self.name}; there are {', '.join(there)}")
        return images.select([label for label in settings.labels if label in there], names=settings.labels)
