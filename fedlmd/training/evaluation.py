"""Accuracy and loss of a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.data import LabelledImages

Classify = Callable[[Tensor], Tensor]
"""Images to logits (B, K), such as a network."""


class Evaluated(NamedTuple):
    """Per image: 1 where the class was right and 0 elsewhere, and the cross-entropy in nats."""

    accuracy: Float[Tensor, " n"]
    loss: Float[Tensor, " n"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracy in [0, 1] and mean cross-entropy in nats over ``images`` images."""

    accuracy: float
    loss: float
    images: int


@torch.inference_mode()
def evaluate_images(classifier: Classify, dataset: LabelledImages, batch_size: int = 256) -> Evaluated:
    """Evaluate a classifier on every image of a data set whose labels are the classifier's indices."""
    right, losses = [], []
    # A function, and a classifier without weights, computes on the CPU or moves images itself.
    weights = classifier.parameters() if isinstance(classifier, nn.Module) else iter(())
    device = next((weight.device for weight in weights), torch.device("cpu"))
    for indices in torch.split(torch.arange(len(dataset)), batch_size):
        logits, labels = classifier(dataset.images(indices).to(device)).cpu(), dataset.labels[indices]
        right.append((logits.argmax(1) == labels).float())
        losses.append(F.cross_entropy(logits, labels, reduction="none"))
    return Evaluated(torch.cat(right), torch.cat(losses))


def evaluate(classifier: Classify, dataset: LabelledImages) -> Evaluation:
    """Evaluate a classifier on a whole data set."""
    evaluated = evaluate_images(classifier, dataset)
    return Evaluation(float(evaluated.accuracy.mean()), float(evaluated.loss.mean()), len(dataset))
