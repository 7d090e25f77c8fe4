"""A mixture of workers' denoisers, against the exact denoiser of all their images."""

import pytest
import torch

from fedlmd.diffusion import Mixture
from tests.diffusion.exact import SCHEDULE, Exact, digits, seeded


class Counting:
    """A denoiser that gives one velocity, and counts the images that it was evaluated on."""

    def __init__(self, value):
        self.value, self.evaluated = value, 0

    def __call__(self, x_t, t, label=None, /):
        self.evaluated += len(x_t)
        return torch.full_like(x_t, self.value)


def noisy(images, level, repeats=4):
    """Copies of images at a noise level."""
    x_0 = images.repeat(repeats, 1, 1, 1)
    t = torch.full((len(x_0),), level)
    return SCHEDULE.add_noise(x_0, seeded(1)(tuple(x_0.shape)), t), t


@pytest.mark.parametrize("level", [200, 600, 800, 950])
def test_of_workers_with_an_image_each_it_is_the_exact_denoiser_of_all_images(level):
    images, _ = digits(3)
    denoisers = [Exact(images[i : i + 1], SCHEDULE) for i in range(3)]
    x_t, t = noisy(images, level)
    mixed = Mixture(denoisers, SCHEDULE, torch.full((3, 1), 1 / 3))(x_t, t)
    torch.testing.assert_close(mixed, Exact(images, SCHEDULE)(x_t, t), atol=2e-4, rtol=1e-3)


def test_a_worker_counts_by_its_share_of_the_images():
    # A worker of one image, and one of three copies of another.
    images, _ = digits(2)
    copies = images[[0, 1, 1, 1]]
    x_t, t = noisy(images, 900)
    mixed = Mixture(
        [Exact(images[:1], SCHEDULE), Exact(images[1:], SCHEDULE)], SCHEDULE, torch.tensor([[0.25], [0.75]])
    )(x_t, t)
    torch.testing.assert_close(mixed, Exact(copies, SCHEDULE)(x_t, t), atol=2e-4, rtol=1e-3)


def test_given_a_label_only_the_denoisers_of_workers_that_hold_it_are_evaluated():
    first, second = Counting(1.0), Counting(2.0)
    mixture = Mixture([first, second], SCHEDULE, torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    x_t = torch.zeros(5, 1, 4, 4)
    v = mixture(x_t, torch.full((5,), 500), torch.tensor([0, 1, 1, 0, 1]))
    assert v[:, 0, 0, 0].tolist() == [1.0, 2.0, 2.0, 1.0, 2.0]
    assert (first.evaluated, second.evaluated) == (2, 3)


def test_all_denoisers_are_evaluated_for_a_label_that_no_worker_holds_and_without_a_label():
    for label in (torch.tensor([2, 2]), torch.tensor([3, 3]), None):  # 3 is "no label" among three
        denoisers = [Counting(1.0), Counting(2.0)]
        mixture = Mixture(denoisers, SCHEDULE, torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.5, 0.0]]), sharpness=0.0)
        mixture(torch.zeros(2, 1, 4, 4), torch.full((2,), 500), label)
        assert [denoiser.evaluated for denoiser in denoisers] == [2, 2]


def test_without_sharpness_predictions_are_averaged_by_share():
    mixture = Mixture([Counting(1.0), Counting(2.0)], SCHEDULE, torch.tensor([[0.25], [0.75]]), sharpness=0.0)
    v = mixture(torch.ones(1, 1, 4, 4), torch.tensor([500]), torch.tensor([0]))
    torch.testing.assert_close(v, torch.full_like(v, 1.75))


def test_every_worker_needs_its_shares():
    with pytest.raises(ValueError, match="2 denoisers and the shares of 1 workers"):
        Mixture([Counting(1.0), Counting(2.0)], SCHEDULE, torch.ones(1, 3))
