"""A worker's images: where they are, and how they are divided into training, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedlmd.data import (
    DataConfig,
    DataError,
    Encode,
    LabelledImages,
    Loading,
    Split,
    Survey,
    evaluation_split,
    label_names,
    loading,
    split_held_back,
    survey,
)
from fedlmd.models import LatentEncoder
from fedlmd.progress import Progress, drain
from fedlmd.settings import Settings
from fedlmd.worker.encoding import Encoding, StoredMaps


@dataclass(frozen=True)
class WorkerImages:
    """A worker's images, no image in two of the three.

    Args:
        training: for training the networks.
        held_back: for calibrating the detectors.
        evaluation: for measuring the accuracy.
    """

    training: LabelledImages
    held_back: LabelledImages
    evaluation: LabelledImages


@dataclass(frozen=True)
class WorkerConfig:
    """Where a worker's images are, and where it keeps releases and state.

    Args:
        name: the worker's name in logs, metrics and releases.
        data: its source and its share of it.
        worker: which share, from 0.
        root: the folder that paths in requests must lie in; None allows any.
        releases: the folder that releases are installed in; None for a worker that keeps none.
        state: the folder of its client state; None keeps that in its process alone.
        store: the file of encoded images' maps; None stores none.
        load: loads a source, as ``fedlmd.data.loading`` or ``load`` does.
    """

    name: str
    data: DataConfig = field(default_factory=DataConfig)
    worker: int = 0
    root: Path | None = None
    releases: Path | None = None
    state: Path | None = None
    store: Path | None = None
    load: Callable[..., Loading | LabelledImages] = field(default=loading, repr=False, compare=False)

    def images(
        self, settings: Settings, *, training: str | None = None, evaluation: str | None = None, complete: bool = False
    ) -> WorkerImages:
        """Load the worker's images of a run that works on images themselves; see ``loading``."""
        return drain(self.loading(settings, None, training=training, evaluation=evaluation, complete=complete))

    def loading(
        self,
        settings: Settings,
        encoder: LatentEncoder | None,
        *,
        training: str | None = None,
        evaluation: str | None = None,
        complete: bool = False,
    ) -> Generator[Progress, None, WorkerImages]:
        """Load the worker's images of a run's labels; class indices are the run's.

        Args:
            settings: labels, image size, channels and seed of the run.
            encoder: turns images into latents; None, or one that changes nothing, loads the images themselves.
            training: another source to train on than the worker's.
            evaluation: another source to evaluate on.
            complete: refuse when a label has no image here. In a federation a worker may lack some labels.

        Raises:
            DataError: when a source cannot be read, or lacks all of the labels, or one that must be there.
            EncoderError: when the encoder cannot be loaded.
        """
        source = training or self.data.source
        apart = evaluation is not None and evaluation != source
        # Nothing needs to be split off a source for evaluation where another one is for that, and nothing off that one.
        whole = apart and evaluation_split(source, root=self.root) == "all"
        encode = self.encoding(settings, encoder)
        training_split = yield from self.split(settings, "all" if whole else "train", source, encode, complete)
        which = evaluation_split(evaluation, root=self.root) if apart and evaluation else "eval"
        evaluated = yield from self.split(settings, which, evaluation or source, encode, complete)
        kept, held_back = split_held_back(training_split, self.data.held_back, settings.seed)
        return WorkerImages(kept, held_back, evaluated)

    def encoding(self, settings: Settings, encoder: LatentEncoder | None) -> Encode | None:
        """What turns images into latents; None where images stay as they are."""
        if encoder is None or encoder.is_identity:
            return None
        store = None if self.store is None else StoredMaps(self.store)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return Encoding(encoder, settings.pixel_rules, store, device)

    def survey(self, source: str | None = None) -> Survey:
        """What the worker's source, or another, holds, and what its images look like. Raises DataError."""
        return survey(source or self.data.source, root=self.root, config=self.data)

    def split(self, settings: Settings, which: Split, source: str, encode: Encode | None, complete: bool) -> Loading:
        """One split of a source: the images of the run's labels and, of the worker's source, of its share."""
        form: dict[str, Any] = {"root": self.root, "config": self.data, "rules": settings.pixel_rules, "encode": encode}
        if source == self.data.source and self.data.partition.kind != "none":
            # A source is divided whole, so that the shares are the same whatever labels a run has.
            form |= {"share": self.worker, "only": settings.labels}
        else:
            # A run that has no label in common with the source is refused by ``load``, which names what there is.
            present = label_names(source, which, root=self.root, config=self.data)
            form["labels"] = tuple(label for label in settings.labels if label in present) or settings.labels
        given = self.load(source, which, **form)
        images = given if isinstance(given, LabelledImages) else (yield from given)
        if "share" in form:
            present = tuple(images.names[index] for index in torch.unique(images.labels).tolist())
        refuse_other_case(self.name, settings.labels, present)
        missing = [label for label in settings.labels if label not in present]
        if missing and (complete or len(missing) == len(settings.labels)):
            raise DataError(f"label {missing[0]!r} has no image at {self.name}; there are {', '.join(present)}")
        return images.select([label for label in settings.labels if label in present], names=settings.labels)


def refuse_other_case(worker: str, labels: Sequence[str], present: Sequence[str]) -> None:
    """Refuse labels of a run that a worker has in another case, such as "cat" and "Cat". Raises DataError."""
    for label in labels:
        for name in present:
            if label not in present and name not in labels and name.casefold() == label.casefold():
                raise DataError(
                    f"{worker} has the label {name!r}, the run has {label!r}: if they are one, give them one name"
                )
