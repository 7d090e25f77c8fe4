"""Inpainting with the exact denoiser of a small data set, where the exact result is known."""

import pytest
import torch

from fedlmd.data import to_pixels
from fedlmd.diffusion import InpaintingConfig, inpaint
from tests.diffusion.exact import SCHEDULE, Exact, digits, seeded

CONFIG = InpaintingConfig(steps=50)


def top_half(count):
    keep = torch.zeros(count, 1, 28, 28, dtype=torch.bool)
    keep[:, :, :14] = True
    return keep


def board(count):
    """Every second pixel, in which any two digits differ."""
    return ((torch.arange(28)[:, None] + torch.arange(28)) % 2 == 0).expand(count, 1, 28, 28)


def redraw(exact, images, keep, config=CONFIG, label=None, seed=0):
    return inpaint(exact, SCHEDULE, images, keep, config=config, noise=seeded(seed), label=label)


@pytest.fixture
def twins():
    """Two images that agree on the upper half, of class 0 and 1, and their denoiser."""
    images, _ = digits(2)
    images[1, :, :14] = images[0, :, :14]
    return images, Exact(images, SCHEDULE, torch.tensor([0, 1]))


@pytest.mark.parametrize("config", [InpaintingConfig(10), CONFIG, InpaintingConfig(20, start=0.7)])
def test_an_image_of_the_set_comes_back_byte_for_byte_from_the_part_that_identifies_it(config):
    images, _ = digits(30)
    redrawn = redraw(Exact(images, SCHEDULE), images, board(30), config)
    assert torch.equal(to_pixels(redrawn), to_pixels(images))


def test_of_two_images_that_agree_on_the_visible_part_each_comes_back_half_of_the_time(twins):
    images, exact = twins
    redrawn = redraw(exact, images[:1].repeat(200, 1, 1, 1), top_half(200))
    is_first, is_second = ((redrawn - image).abs().amax((1, 2, 3)) < 1e-3 for image in images)
    assert (is_first ^ is_second).all()
    # Four standard deviations of a fair coin tossed 200 times.
    assert abs(int(is_first.sum()) - 100) < 29


@pytest.mark.parametrize("label", [0, 1])
def test_a_label_picks_the_image_of_its_class(twins, label):
    images, exact = twins
    redrawn = redraw(exact, images, top_half(2), label=torch.full((2,), label))
    torch.testing.assert_close(redrawn, images[[label, label]], atol=1e-3, rtol=0)


def test_no_label_is_the_same_as_the_index_that_stands_for_none(twins):
    images, exact = twins
    unlabelled = redraw(exact, images, top_half(2))
    assert torch.equal(unlabelled, redraw(exact, images, top_half(2), label=torch.full((2,), exact.classes)))


def test_an_image_outside_the_set_is_redrawn_far_from_itself():
    inside, _ = digits(30)
    outside, _ = digits(30, first=30)
    exact = Exact(inside, SCHEDULE)
    near, far = ((redraw(exact, x, board(30)) - x).square().mean((1, 2, 3)) for x in (inside, outside))
    assert near.max() < 1e-6
    assert far.min() > 0.01


@pytest.mark.parametrize("config", [InpaintingConfig(1), InpaintingConfig(7, eta=0.5), InpaintingConfig(5, start=0.4)])
def test_visible_pixels_are_untouched_bit_for_bit_and_all_stay_in_range(config):
    images, _ = digits(4)
    keep = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.5
    redrawn = inpaint(lambda x, t, label=None: 5 * x, SCHEDULE, images, keep, config=config, noise=seeded())
    assert torch.equal(redrawn[keep], images[keep])
    assert not torch.equal(redrawn, images)
    assert redrawn.abs().max() <= 1


def test_a_fully_visible_image_comes_back_and_a_fully_hidden_one_is_a_sample():
    images, _ = digits(3)
    exact = Exact(images, SCHEDULE)
    everything = torch.ones(3, 1, 28, 28, dtype=torch.bool)
    assert torch.equal(redraw(exact, images, everything), images)
    blank = torch.zeros(20, 1, 28, 28)
    redrawn = redraw(exact, blank, ~everything[:1].expand(20, 1, 28, 28))
    distances = (redrawn[:, None] - images).abs().amax((2, 3, 4))
    assert (distances.min(1).values < 1e-3).all()


def test_nothing_of_the_hidden_part_leaks_in_when_it_starts_from_pure_noise(twins):
    images, exact = twins
    blanked = images.clone()
    blanked[:, :, 14:] = 0.5
    redrawn, of_blanked = redraw(exact, images, top_half(2)), redraw(exact, blanked, top_half(2))
    assert torch.equal(redrawn, of_blanked)


def test_the_network_is_evaluated_once_per_step():
    seen = []

    def denoiser(x, t, label=None):
        seen.append((t.unique().tolist(), label))
        return torch.zeros_like(x)

    images, _ = digits(2)
    label = torch.tensor([3, 4])
    config = InpaintingConfig(4, start=0.5)
    inpaint(denoiser, SCHEDULE, images, top_half(2), config=config, noise=seeded(), label=label)
    assert seen == [([level], label) for level in (499, 374, 249, 124)]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0; it is 1 or more"),
        ({"eta": 1.1}, r"eta is 1.1; it lies in \[0, 1\]"),
        ({"eta": -0.1}, "eta is -0.1"),
        ({"start": 0.0}, r"start is 0.0; it lies in \(0, 1\]"),
        ({"start": 1.5}, "start is 1.5"),
        ({"start": float("nan")}, "start is nan"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        InpaintingConfig(**values)
