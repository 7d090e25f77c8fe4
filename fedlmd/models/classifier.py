"""The classifier: a small residual CNN that gives logits and the features behind them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["CNN", "ClassifierConfig", "turned"]


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of the classifier.

    Args:
        image_size: height and width of the images, in pixels; a multiple of ``patch``.
        channels: image channels, 1 or 3.
        classes: number of labels.
        widths: feature channels of each stage; every stage has half the resolution of the one before; multiples of 8.
        patch: pixels of a patch's side. Patches are folded into channels first, so that no layer runs at full
            resolution, as in the denoiser.
        dropout: share of the pooled features that is zeroed in training, in [0, 1).
        views: how many turned copies of an image it tells apart, 1, 4 or 8, see ``turned``. With more than one it has
            to learn what makes a label's shape beyond what tells the labels apart, which is what shows unseen labels.
        head: the last layer is "fixed" as it begins, or "learned".
    """

    image_size: int = 28
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 64, 96)
    patch: int = 2
    dropout: float = 0.25
    views: int = 4
    head: Literal["fixed", "learned"] = "fixed"

    def __post_init__(self) -> None:
        """Refuse a shape that cannot be built, with the reason."""
        if not self.widths or any(width % 8 or width < 8 for width in self.widths):
            raise ValueError(f"widths {self.widths} must be one or more multiples of 8")
        if self.image_size % self.patch:
            raise ValueError(f"image_size {self.image_size} must be a multiple of {self.patch}")
        if self.classes < 2:
            raise ValueError(f"{self.classes} classes; a classifier tells at least 2 labels apart")
        if self.views not in (1, 4, 8):
            raise ValueError(f"views is {self.views}; it is 1 (upright), 4 (turned) or 8 (turned and mirrored)")


class CNN(nn.Module):
    """Convolution stages with GroupNorm (Wu & He 2018), cubic-mean pooling, one linear head over labels and views.

    The head names label and view together, and the logits of a label are averaged over the views (self-supervised
    label augmentation: Lee, Hwang & Shin 2020, eq. 4 and 5). GroupNorm rather than BatchNorm: running statistics of
    sites with different labels do not average. Pooling is the cubic mean (GeM: Radenović, Tolias & Chum 2019, eq. 3),
    between the mean, which strokes far from a feature dilute, and the maximum, which one position decides.

    A fixed head (Hoffer, Hubara & Soudry 2018) has orthonormal rows, as far as the features have so many dimensions:
    each label has its direction in the embedding from the start, and the same one at every site. A learned one drifts
    apart between sites with different labels, as each turns it away from the labels that it lacks (Li et al. 2023).
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = (config.channels * config.patch**2, *config.widths)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(widths))
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(widths[-1], config.classes * config.views)
        if config.head == "fixed":
            nn.init.orthogonal_(self.head.weight)
            nn.init.zeros_(self.head.bias)
            self.head.requires_grad_(False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits of each label for images in [-1, 1]: the mean over the views of the image."""
        return self.logits(self.embedding(images))

    def embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """What the head sees of every view of each image, view after view: (B, views * widths[-1])."""
        views = range(self.config.views)
        pooled = self.pooled(torch.cat([turned(images, view) for view in views]))
        return torch.cat(torch.split(pooled, len(images)), dim=1)

    def logits(self, embedding: Float[Tensor, "b _e"]) -> Float[Tensor, "b k"]:
        """Logits of each label from the embedding of an image."""
        parts = embedding.chunk(self.config.views, dim=1)
        return torch.stack([self.judged(part)[:, :, view] for view, part in enumerate(parts)]).mean(0)

    def joint(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k v"]:
        """Logits of each label in each view, for images that may be in any."""
        return self.judged(self.pooled(images))

    def judged(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b k v"]:
        """The head's logits of each label in each view."""
        logits: Tensor = self.head(self.dropout(pooled))
        return logits.reshape(-1, self.config.classes, self.config.views)

    def pooled(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The cubic mean over positions of the coarsest feature maps."""
        # The root has no slope at 0, so that what is pooled stays above it.
        return self.maps(images)[-1].clamp(min=1e-4).pow(3).mean((2, 3)).pow(1 / 3)

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The feature maps of every stage, finest first."""
        found: list[Tensor] = []
        for stage in self.stages:
            x = F.max_pool2d(found[-1], 2, ceil_mode=True) if found else F.pixel_unshuffle(images, self.config.patch)
            found.append(stage(x))
        return found


def turned(images: Float[Tensor, "b c n n"], view: int) -> Float[Tensor, "b c n n"]:
    """A view of square images: 0 is upright, 1 to 3 are quarter turns, 4 to 7 the same of the mirror image."""
    mirrored = images.flip(3) if view >= 4 else images
    return torch.rot90(mirrored, view % 4, (2, 3))


class Stage(nn.Module):
    """Two convolutions at one resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return F.silu(self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x))))))
