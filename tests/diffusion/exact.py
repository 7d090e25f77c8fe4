"""The exact denoiser of a small data set, in place of a trained network: what it does follows from its images."""

import torch

from fedlmd.data import load, to_unit_range
from fedlmd.diffusion import Schedule


class Exact:
    """The velocity that minimises the denoising loss on a data set.

    With images x_i all equally likely, E[x_0 | x_t] is their mean weighted with softmax(-|x_t - alpha x_i|^2 / 2
    sigma^2), and E[v | x_t] = (alpha x_t - E[x_0 | x_t]) / sigma. With a label only its own images count; index
    ``classes`` stands for "no label".
    """

    def __init__(self, images, schedule, labels=None, classes=10):
        self.images, self.schedule, self.labels, self.classes = images, schedule, labels, classes

    def posterior(self, x_t, t, label=None):
        """The probability of each image of the data set behind each noisy one, (B, N)."""
        alpha, sigma = (factor.double().flatten(1) for factor in self.schedule.signal(t))
        members, noisy = self.images.double().flatten(1), x_t.double().flatten(1)
        squared = (noisy[:, None] - alpha[:, :, None] * members).square().sum(2)
        logits = -squared / (2 * sigma**2)
        if label is not None and self.labels is not None:
            other = (label[:, None] != self.labels) & (label[:, None] != self.classes)
            logits = logits.masked_fill(other, float("-inf"))
        return logits.softmax(1)

    def mean(self, x_t, t, label=None):
        weighted = self.posterior(x_t, t, label) @ self.images.double().flatten(1)
        return weighted.float().reshape(x_t.shape)

    def __call__(self, x_t, t, label=None):
        alpha, sigma = self.schedule.signal(t)
        return (alpha * x_t - self.mean(x_t, t, label)) / sigma


def digits(count, first=0):
    """Some of MNIST's evaluation digits, in [-1, 1], and their classes."""
    loaded = load("mnist", "eval").take(range(first, first + count))
    return to_unit_range(loaded.pixels), loaded.labels


def seeded(seed=0):
    """A source of noise."""
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator)


SCHEDULE = Schedule()
