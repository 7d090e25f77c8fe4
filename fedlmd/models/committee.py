"""Two classifiers in one: a CNN that begins anew, and the fine-tuned last blocks of the encoder."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.classifier import CNN, Classifier, ClassifierConfig
from fedlmd.models.last_blocks import WIDTH, LastBlocks

LEADING = 64
"""Channels that the CNN gets: the later ones vary least over the images and are scaled up to the same variance."""


@final
class Committee(Classifier):
    """A CNN and ``LastBlocks``, trained side by side on the same images, each by its own loss.

    What the encoder never learned, such as the shapes of hands, the CNN learns better; textures and objects the blocks
    know. The logits are the means of both, the embedding is that of both.

    Args:
        config: of the classifier; ``widths``, ``views`` and ``head`` are the CNN's.

    Raises:
        EncoderError: the extra ``photos`` is not installed.
        ValueError: more than one view is asked for.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        self.cnn = CNN(replace(config, channels=min(LEADING, config.channels)))
        self.last_blocks = LastBlocks(config)

    @property
    def head(self) -> nn.Linear:  # type: ignore[override]
        """The CNN's last layer."""
        return self.cnn.head

    def leading(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _c h w"]:
        """The channels that the CNN gets."""
        return images[:, : self.cnn.config.channels]

    def follow(self, mean: Float[Tensor, " d"], projection: Float[Tensor, "c d"]) -> None:
        """See ``LastBlocks.follow``."""
        self.last_blocks.follow(mean, projection)

    def embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """The embeddings of both, the CNN's first."""
        return torch.cat([self.cnn.embedding(self.leading(images)), self.last_blocks.embedding(images)], dim=1)

    def logits(self, embedding: Float[Tensor, "b _e"]) -> Float[Tensor, "b k"]:
        """The mean of the logits of both."""
        ours, theirs = self.parts(embedding)
        return torch.stack([self.cnn.logits(ours), self.last_blocks.logits(theirs)]).mean(0)

    def parts(self, embedding: Float[Tensor, "b _e"]) -> tuple[Tensor, Tensor]:
        """The embedding of each."""
        return embedding[:, :-WIDTH], embedding[:, -WIDTH:]

    def unit_length(self, embedding: Float[Tensor, "b _e"]) -> Float[Tensor, "b _e"]:
        """Embeddings scaled to unit length, to which both contribute alike."""
        return torch.cat([F.normalize(part) for part in self.parts(embedding)], dim=1) * math.sqrt(0.5)

    def training_logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "m b k"]:
        """Logits by each of the two."""
        return torch.stack([self.cnn(self.leading(images)), self.last_blocks(images)])

    def joint(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k v"]:
        """The logits of each label in the one view that there is."""
        return self.logits(self.embedding(images))[:, :, None]

    def stages_embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """The cubic means of every stage of the CNN, and the means of the last block."""
        parts = self.cnn.stages_embedding(self.leading(images)), self.last_blocks.stages_embedding(images)
        return torch.cat(parts, dim=1)

    def maps(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The feature maps of the CNN's stages."""
        return self.cnn.maps(self.leading(images))
