"""One denoiser made of several workers' denoisers, none of which was averaged with another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedlmd.diffusion.samplers import Denoiser
from fedlmd.diffusion.schedule import Schedule


@final
class Mixture:
    """The denoiser of a mixture of the workers' distributions: a mean of the workers' predictions, weighted per image.

    The score of a mixture p = sum_k pi_k p_k is the mean of the workers' scores under the posterior of the worker, w_k
    = pi_k p_k(x_t) / p(x_t); so is the velocity, which is linear in the score. No denoiser gives p_k(x_t): it is
    approximated by a Gaussian around the denoised image, log p_k(x_t) = -||n_k||^2 / 2 with n_k the noise that worker
    k's denoiser predicts. That is exact for workers of one image each. Given a label, pi_k is worker k's share of the
    images with that label, so that only the denoisers of workers that have it are evaluated.

    Args:
        members: one denoiser for each worker.
        schedule: the noise levels of all of them.
        shares: for each worker the share of each label's images that it holds; a label's column sums to 1, or to 0
            where no worker holds it (all workers count alike then).
        sharpness: factor on log p_k, 0 or above: 1 is the mixture; 0 weighs workers by their shares alone.
    """

    def __init__(
        self, members: Sequence[Denoiser], schedule: Schedule, shares: Float[Tensor, "k c"], sharpness: float = 1.0
    ) -> None:
        if len(members) != len(shares):
            raise ValueError(f"{len(members)} denoisers and the shares of {len(shares)} workers; give one for each")
        self.shares = torch.where(shares.sum(0) == 0, 1 / len(shares), shares)
        self.members, self.schedule, self.sharpness = tuple(members), schedule, sharpness

    def __call__(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """The mixture's velocity."""
        prior = self.prior(label, len(x_t), x_t.device)
        velocities, evidence = [], []
        for member, share in zip(self.members, prior, strict=True):
            held = share > 0
            v, log_p = torch.zeros_like(x_t), torch.zeros_like(share)
            if held.any():
                v[held] = member(x_t[held], t[held], None if label is None else label[held])
                noise = self.schedule.noise(x_t[held], v[held], t[held])
                log_p[held] = -noise.flatten(1).square().sum(1) / 2
            velocities.append(v)
            evidence.append(share.log() + self.sharpness * log_p)
        weights = torch.stack(evidence).softmax(0)
        return torch.einsum("kb,kbchw->bchw", weights, torch.stack(velocities))

    def prior(self, label: Int[Tensor, " b"] | None, count: int, device: torch.device) -> Float[Tensor, "k b"]:
        """The workers' shares of each image's label; of all labels alike for an image without one."""
        shares = self.shares.to(device)
        any_label = shares.mean(1, keepdim=True)
        if label is None:
            return any_label.expand(-1, count)
        return torch.cat([shares, any_label], dim=1)[:, label]
