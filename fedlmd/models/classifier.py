"""The classifier: a small residual CNN that gives logits and the features behind them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.choices import between


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
        views: how many turned copies of an image it distinguishes, 1 or 4, see ``turned``. With 4 it has to learn more
            of a label's shape than distinguishes the labels, which improves the detection of unseen labels.
        head: the last layer is "fixed" as it begins, or "learned".
        network: a name of ``fedlmd.models.CLASSIFIERS``.
        thumbnail: height and width of the thumbnail that the last of the ``channels`` hold, see ``LatentEncoder``, in
            pixels; 0 where they hold none.
    """

    image_size: int = 28
    channels: int = 1
    classes: int = 10
    widths: tuple[int, ...] = (32, 64, 96)
    patch: int = 2
    dropout: float = 0.25
    views: int = 4
    head: Literal["fixed", "learned"] = "fixed"
    network: str = "cnn"
    thumbnail: int = 0

    def __post_init__(self) -> None:
        if not self.widths or any(width % 8 or width < 8 for width in self.widths):
            raise ValueError(f"widths {self.widths} must be one or more multiples of 8")
        if self.image_size % self.patch:
            raise ValueError(f"image_size {self.image_size} must be a multiple of {self.patch}")
        between(self, 2, math.inf, "classes")
        between(self, 0, math.inf, "thumbnail")
        if self.views not in (1, 4):
            raise ValueError(f"views is {self.views}; it is 1 (upright) or 4 (turned)")


class Classifier(nn.Module, ABC):
    """A network that gives feature maps, cubic-mean pooling, one linear head over labels and views.

    The head names label and view together, and the logits of a label are averaged over the views (self-supervised
    label augmentation: Lee, Hwang & Shin 2020, eq. 4 and 5). Pooling is the cubic mean (GeM: Radenović, Tolias & Chum
    2019, eq. 3): in the mean a local feature counts little, the maximum depends on one position alone.

    A fixed head (Hoffer, Hubara & Soudry 2018) has orthonormal rows, as far as the features have so many dimensions:
    each label has its direction in the embedding from the start, and the same one at every worker. A learned one
    differs between workers with different labels, as each turns it away from the labels that it lacks (Li et al. 2023).

    A subclass builds its layers, calls ``build_head`` and gives ``maps``.
    """

    head: nn.Linear

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.thumbnail_cnn: Classifier | None = None  # trained by itself, on thumbnails beside latents

    @abstractmethod
    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The feature maps of every stage, finest first."""

    def build_head(self, width: int) -> None:
        """Make the dropout and the head behind pooled features (B, ``width``)."""
        self.dropout = nn.Dropout(self.config.dropout)
        self.head = nn.Linear(width, self.config.classes * self.config.views)
        if self.config.head == "fixed":
            nn.init.orthogonal_(self.head.weight)
            nn.init.zeros_(self.head.bias)
            self.head.requires_grad_(False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits of each label for images in [-1, 1]: the mean over the views of the image."""
        return self.logits(self.embedding(images))

    def embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """What the head receives of every view of each image, view after view: (B, views * width)."""
        views = range(self.config.views)
        pooled = self.pooled(torch.cat([turned(images, view) for view in views]))
        return torch.cat(pooled.reshape(self.config.views, images.shape[0], pooled.shape[1]).unbind(), dim=1)

    def logits(self, embedding: Float[Tensor, "b _e"]) -> Float[Tensor, "b k"]:
        """Logits of each label from the embedding of an image."""
        parts = embedding.chunk(self.config.views, dim=1)
        return torch.stack([self.view_logits(part)[:, :, view] for view, part in enumerate(parts)]).mean(0)

    def joint(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k v"]:
        """Logits of each label in each view, for images that may be in any."""
        return self.view_logits(self.pooled(images))

    def view_logits(self, pooled: Float[Tensor, "b d"]) -> Float[Tensor, "b k v"]:
        """The head's logits of each label in each view."""
        logits: Tensor = self.head(self.dropout(pooled))
        return logits.reshape(-1, self.config.classes, self.config.views)

    @property
    def latent_channels(self) -> int:
        """Channels without those of a thumbnail."""
        return self.config.channels - 3 * (self.config.thumbnail // self.config.image_size) ** 2

    def members(self, images: Float[Tensor, "b c h w"]) -> list[tuple[Classifier, Tensor]]:
        """The networks that have a loss of their own, and what each gets of the images; here there is one."""
        return [(self, images)]

    def unit_length(self, embedding: Float[Tensor, "b _e"]) -> Float[Tensor, "b _e"]:
        """Embeddings scaled to unit length."""
        return F.normalize(embedding)

    def thumbnail_embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """The embedding of thumbnails beside latents, scaled to unit length. Raises ValueError without any."""
        raise ValueError(f"this classifier gets no thumbnails, the {images.shape[1]} channels are those of the image")

    def follow(self, mean: Float[Tensor, " d"], projection: Float[Tensor, "c d"]) -> None:
        """Take the whitening of the encoder whose latents the classifier gets; most classifiers need none of it."""

    def pooled(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The cubic mean over positions of the coarsest feature maps."""
        return cubic_mean(self.maps(images)[-1])

    def stages_embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """The cubic means of every stage's feature maps, those of each stage scaled to a mean square of 1."""
        means = [cubic_mean(maps) for maps in self.maps(images)]
        return torch.cat([F.normalize(each) * math.sqrt(each.shape[1]) for each in means], dim=1)


def cubic_mean(maps: Float[Tensor, "b d h w"]) -> Float[Tensor, "b d"]:
    """The cubic mean over positions."""
    # The root has no slope at 0, so that what is pooled stays above it.
    return maps.clamp(min=1e-4).pow(3).mean((2, 3)).pow(1 / 3)


@final
class CNN(Classifier):
    """Convolution stages with GroupNorm (Wu & He 2018).

    GroupNorm rather than BatchNorm: running statistics of workers with different labels do not average.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        widths = (config.channels * config.patch**2, *config.widths)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(widths))
        self.build_head(widths[-1])

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The feature maps of every stage, each of half the resolution of the one before."""
        maps: list[Tensor] = []
        for stage in self.stages:
            x = F.max_pool2d(maps[-1], 2, ceil_mode=True) if maps else F.pixel_unshuffle(images, self.config.patch)
            maps.append(stage(x))
        return maps


def turned(images: Float[Tensor, "b c n n"], view: int) -> Float[Tensor, "b c n n"]:
    """A view of square images: 0 is upright, 1 to 3 are quarter turns."""
    return torch.rot90(images, view, (2, 3))


class Stage(nn.Module):
    """Two convolutions at one resolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Features (B, D, H, W) at the stage's resolution."""
        return F.silu(self.norm2(self.conv2(F.silu(self.norm1(self.conv1(x))))))
