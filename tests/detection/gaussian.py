"""The exact denoiser of normally distributed images: its output is linear in its input."""

import torch


class Gaussian:
    """For x_0 ~ N(0, std^2), x_t ~ N(0, alpha^2 std^2 + sigma^2), from which score and means follow."""

    def __init__(self, schedule, std):
        self.schedule, self.std = schedule, std
        self.evaluated = 0

    def __call__(self, x_t, t, label=None):
        assert label is None
        self.evaluated += len(x_t)
        alpha, sigma = self.schedule.signal(t)
        variance = alpha**2 * self.std**2 + sigma**2
        noise, x_0 = sigma * x_t / variance, alpha * self.std**2 * x_t / variance
        return alpha * noise - sigma * x_0

    def draw(self, count, seed=0, size=4):
        generator = torch.Generator().manual_seed(seed)
        return self.std * torch.randn(count, 1, size, size, generator=generator)
