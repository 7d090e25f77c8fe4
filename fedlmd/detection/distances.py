"""Distances between an image and its reconstruction. Each rises with the difference and is 0 for equal images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Literal, TypeVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# (B, C, H, W) twice, in [-1, 1], to (B,).
Distance = Callable[[Tensor, Tensor], Tensor]

DistanceKind = Literal["mse", "ssim", "features", "embedding", "mahalanobis", "lpips"]

T = TypeVar("T")

# Feature maps of a batch of images, finest first.
FeatureMaps = Callable[[Tensor], Sequence[Tensor]]


def mse(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Mean squared error over pixels; in [0, 4] for images in [-1, 1]."""
    return (a - b).square().mean((1, 2, 3))


def ssim_distance(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """1 - SSIM (Wang et al. 2004, eq. 13): Gaussian window of 11 pixels, standard deviation 1.5, K = (0.01, 0.03).

    In [0, 2]. The mean runs over the windows that lie wholly inside the image.
    """
    offsets = torch.arange(11, dtype=a.dtype, device=a.device) - 5
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    channels = a.shape[1]
    kernel = window.expand(channels, 1, 11, 11)

    def smooth(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=channels)

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return 1 - similarity.mean((1, 2, 3))


def deep_feature(maps: FeatureMaps, stages: Sequence[int] = (1,)) -> Distance:
    """Distance in a network's feature maps, as LPIPS has it but without learnt weights (Zhang et al. 2018, eq. 1).

    At every position the features are scaled to unit length; squared differences are averaged over positions and
    summed over the chosen stages. In [0, 4] per stage.

    Args:
        maps: gives the feature maps of a batch, such as a classifier's ``maps``.
        stages: which of the maps count, 0 being the finest.
    """
    first_maps = LastCallCache(maps)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        maps_a, maps_b = first_maps(a), maps(b)
        parts = [
            (F.normalize(maps_a[stage], dim=1) - F.normalize(maps_b[stage], dim=1)).square().sum(1).mean((1, 2))
            for stage in stages
        ]
        return torch.stack(parts).sum(0)

    return distance


def embedding_distance(
    embed: Callable[[Tensor], Tensor],
    image_embedding: Callable[[Tensor], Tensor] | None = None,
    unit_length: Callable[[Tensor], Tensor] = F.normalize,
) -> Distance:
    """Squared distance between the embeddings of two images, each scaled to unit length; in [0, 4].

    Args:
        embed: images to vectors (B, E), such as a classifier's ``embedding``.
        image_embedding: the same for the first of two images, where its last value is cached elsewhere.
        unit_length: scales embeddings.
    """
    image_embedding = image_embedding or LastCallCache(embed)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (unit_length(image_embedding(a)) - unit_length(embed(b))).square().sum(1)

    return distance


@final
class LastCallCache(Generic[T]):
    """A function whose last value is cached: the same tensor is compared with many reconstructions."""

    def __init__(self, function: Callable[[Tensor], T]) -> None:
        self.function = function
        self.last: tuple[Tensor, T] | None = None

    def __call__(self, images: Tensor) -> T:
        """The function's value."""
        # One read and one write of the pair: threads that share it may compute a value twice, but never mix values up.
        last = self.last
        if last is None or last[0] is not images:
            self.last = last = (images, self.function(images))
        return last[1]


def lpips_distance() -> Distance:
    """LPIPS with AlexNet, the paper's distance (Zhang et al. 2018), from the optional package ``lpips``.

    Raises:
        ValueError: when the package or AlexNet's weights are missing, with what to install.
    """
    try:
        import lpips  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise ValueError("the distance 'lpips' needs the extra: pip install 'fedlmd[lpips]'") from None
    try:
        network = lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False)
    except OSError as error:
        raise ValueError(f"the distance 'lpips' needs AlexNet's weights in torch's hub folder: {error}") from None

    def distance(a: Tensor, b: Tensor) -> Tensor:
        # AlexNet takes colour and at least 32 pixels.
        a, b = (F.interpolate(x.expand(-1, 3, -1, -1), size=64, mode="bilinear") for x in (a, b))
        distances: Tensor = network(a, b).flatten()
        return distances

    return distance
