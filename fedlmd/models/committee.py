"""Several classifiers in one: CNNs that begin anew, and the fine-tuned last blocks of the encoder."""

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
from fedlmd.models.latents import cells_to_pixels

LEADING = 64
"""Channels that the CNN on latents gets: the later ones vary least over the images and are scaled up to the same
variance."""

VIEWS = 4
"""Views that the CNN on thumbnails distinguishes: turned latents are no latents of turned images, pixels can be."""


@final
class Committee(Classifier):
    """A CNN on latents and ``LastBlocks``, trained side by side on the same images, and a CNN on thumbnails.

    What the encoder never learned, such as the shapes of hands, CNNs learn better; textures and objects the blocks
    know. The logits are the means of the two on latents, the embedding is that of both.

    The third is for detection alone. It distinguishes the labels in four views of images that are turned, moved and
    scaled, which latents cannot be, and so learns shapes more finely. Its logits would add nothing: of some images too
    little is left in a thumbnail to tell the label.

    Args:
        config: of the classifier; ``widths`` are those of both CNNs, ``views`` and ``head`` of the first. Without
            thumbnails there is no third.

    Raises:
        EncoderError: the extra ``photos`` is not installed.
        ValueError: more than one view of latents is asked for.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__(config)
        latents = replace(config, channels=self.latent_channels, thumbnail=0)
        self.cnn = CNN(replace(latents, channels=min(LEADING, latents.channels)))
        self.last_blocks = LastBlocks(latents)
        if config.thumbnail:
            pixels = replace(latents, image_size=config.thumbnail, channels=3, patch=2)
            self.thumbnail_cnn = CNN(replace(pixels, views=VIEWS, head="fixed"))

    @property
    def head(self) -> nn.Linear:  # type: ignore[override]
        """The last layer of the CNN on latents."""
        return self.cnn.head

    def leading(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _c h w"]:
        """The channels that the CNN on latents gets."""
        return images[:, : self.cnn.config.channels]

    def latents(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _c h w"]:
        """The channels that hold no thumbnail."""
        return images[:, : self.latent_channels]

    def thumbnails(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 s s"]:
        """The thumbnails that the last channels hold."""
        return cells_to_pixels(images[:, self.latent_channels : self.config.channels], self.config.thumbnail)

    def members(self, images: Float[Tensor, "b c h w"]) -> list[tuple[Classifier, Tensor]]:
        """The two on latents, and what each gets of the images. That on thumbnails is trained by itself."""
        return [(self.cnn, self.leading(images)), (self.last_blocks, self.latents(images))]

    def follow(self, mean: Float[Tensor, " d"], projection: Float[Tensor, "c d"]) -> None:
        """See ``LastBlocks.follow``."""
        self.last_blocks.follow(mean, projection)

    def embedding(self, images: Float[Tensor, "b _c h w"]) -> Float[Tensor, "b _e"]:
        """The embeddings of both on latents, the CNN's first; latents without thumbnails are enough."""
        parts = self.cnn.embedding(self.leading(images)), self.last_blocks.embedding(self.latents(images))
        return torch.cat(parts, dim=1)

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

    def joint(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k v"]:
        """The logits of each label in the one view that there is."""
        return self.logits(self.embedding(images))[:, :, None]

    def stages_embedding(self, images: Float[Tensor, "b _c h w"]) -> Float[Tensor, "b _e"]:
        """The cubic means of every stage of the CNN on latents, and the means of the last block."""
        latents = self.latents(images)
        parts = self.cnn.stages_embedding(self.leading(images)), self.last_blocks.stages_embedding(latents)
        return torch.cat(parts, dim=1)

    def thumbnail_embedding(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b _e"]:
        """The embedding of the CNN on thumbnails, the mean over its views scaled to unit length.

        Raises:
            ValueError: the classifier has none.
        """
        if self.thumbnail_cnn is None:
            return super().thumbnail_embedding(images)
        views = self.thumbnail_cnn.embedding(self.thumbnails(images))
        return F.normalize(torch.stack(views.chunk(VIEWS, dim=1)).mean(0))

    def maps(self, images: Float[Tensor, "b _c h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """The feature maps of the stages of the CNN on latents."""
        return self.cnn.maps(self.leading(images))
