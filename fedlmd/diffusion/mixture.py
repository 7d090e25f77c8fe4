"""One denoiser made of several sites' denoisers, none of which was averaged with another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedlmd.diffusion.samplers import Denoiser
from fedlmd.diffusion.schedule import Schedule

__all__ = ["Mixture"]


@final
class Mixture:
    """The denoiser of a mixture of sites, from the sites' own: predictions weighted by how well each explains x_t.

    The score of a mixture p = sum_k pi_k p_k is the mean of the sites' scores under the posterior of the site, w_k =
    pi_k p_k(x_t) / p(x_t); so is the velocity, which is linear in the score. What no denoiser tells is p_k(x_t): it is
    taken for a Gaussian around what the site makes of the image, log p_k(x_t) = -||n_k||^2 / 2 with n_k the noise that
    site k sees in x_t. That is exact for sites of one image each. Given a label, pi_k is site k's share of the images
    with that label, so that only sites that have it are asked.

    Args:
        members: one denoiser for each site.
        schedule: the noise levels of all of them.
        shares: for each site the share of each label's images that it holds; a label's column sums to 1, or to 0 where
            nobody holds it (all sites count alike then).
        sharpness: factor on log p_k, 0 or above: 1 is the mixture; 0 weighs sites by their shares alone.
    """

    def __init__(
        self, members: Sequence[Denoiser], schedule: Schedule, shares: Float[Tensor, "k c"], sharpness: float = 1.0
    ) -> None:
        if len(members) != len(shares):
            raise ValueError(f"{len(members)} denoisers and the shares of {len(shares)} sites; give one for each")
        nobody = shares.sum(0) == 0
        self.shares = torch.where(nobody, 1 / len(shares), shares)
        self.members, self.schedule, self.sharpness = tuple(members), schedule, sharpness

    def __call__(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The mixture's velocity."""
        prior = self.prior(label, len(x_t), x_t.device)
        velocities, evidence = [], []
        for member, share in zip(self.members, prior, strict=True):
            asked = share > 0
            v, log_p = torch.zeros_like(x_t), torch.zeros_like(share)
            if asked.any():
                chosen = None if label is None else label[asked]
                v[asked] = member(x_t[asked], t[asked], chosen)
                seen = self.schedule.noise(x_t[asked], v[asked], t[asked])
                log_p[asked] = -seen.flatten(1).square().sum(1) / 2
            velocities.append(v)
            evidence.append(share.log() + self.sharpness * log_p)
        weights = torch.stack(evidence).softmax(0)
        return torch.einsum("kb,kbchw->bchw", weights, torch.stack(velocities))

    def prior(self, label: Int[Tensor, " b"] | None, count: int, device: torch.device) -> Float[Tensor, "k b"]:
        """The sites' shares of each image's label; of all labels alike for an image without one."""
        shares = self.shares.to(device)
        anything = shares.mean(1, keepdim=True)
        if label is None:
            return anything.expand(-1, count)
        return torch.cat([shares, anything], dim=1)[:, label]
