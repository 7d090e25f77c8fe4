"""How good a classifier is on images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.data import LabelledImages

__all__ = ["Evaluation", "Judged", "evaluate", "judge"]


class Judged(NamedTuple):
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
def judge(classifier: nn.Module, dataset: LabelledImages, batch_size: int = 256) -> Judged:
    """Judge every image of a data set whose labels are the classifier's own indices."""
    right, losses = [], []
    # A function without weights, as tests have it, computes on the processor.
    device = next((weight.device for weight in classifier.parameters()), torch.device("cpu"))
    for indices in torch.split(torch.arange(len(dataset)), batch_size):
        logits, labels = classifier(dataset.images(indices).to(device)).cpu(), dataset.labels[indices]
        right.append((logits.argmax(1) == labels).float())
        losses.append(F.cross_entropy(logits, labels, reduction="none"))
    return Judged(torch.cat(right), torch.cat(losses))


def evaluate(classifier: nn.Module, dataset: LabelledImages) -> Evaluation:
    """Judge a classifier on a whole data set."""
    judged = judge(classifier, dataset)
    return Evaluation(float(judged.accuracy.mean()), float(judged.loss.mean()), len(dataset))
