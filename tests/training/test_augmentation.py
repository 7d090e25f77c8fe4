"""Distortions against the same maps by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from fedlmd.training.augmentation import AugmentationConfig, augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blob(size=28, y=0.0, x=0.0):
    """A bump around a place given in the map's coordinates, -1 to 1."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    return torch.exp(-((line[:, None] - y) ** 2 + (line[None, :] - x) ** 2) / 0.02)[None, None]


def centre(images):
    """Centre of mass (y, x) of each image in the map's coordinates."""
    size = images.shape[-1]
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    mass = images.sum((1, 2, 3))
    return (images.sum((1, 3)) @ line / mass), (images.sum((1, 2)) @ line / mass)


def test_without_bounds_the_images_are_left_alone():
    images = torch.randn(3, 1, 8, 8)
    assert augment(images, AugmentationConfig(), generator()) is images


def test_a_shift_stays_within_its_share_of_the_size_and_reaches_it():
    moved = augment(blob().repeat(2000, 1, 1, 1), AugmentationConfig(shift=0.1), generator())
    for along in centre(moved):
        assert along.abs().max().item() == pytest.approx(0.2, abs=0.005)  # the image reaches from -1 to 1


def test_a_turn_keeps_the_distance_from_the_middle_and_its_angle_within_bounds():
    turned = augment(blob(y=0.0, x=0.5).repeat(2000, 1, 1, 1), AugmentationConfig(turn=30.0), generator())
    y, x = centre(turned)
    torch.testing.assert_close(torch.hypot(y, x), torch.full((2000,), 0.5), atol=0.01, rtol=0)
    assert torch.atan2(y, x).abs().max().item() == pytest.approx(math.radians(30), abs=0.02)


def test_a_zoom_moves_a_place_along_its_ray():
    zoomed = augment(blob(x=0.4).repeat(2000, 1, 1, 1), AugmentationConfig(zoom=0.2), generator())
    y, x = centre(zoomed)
    assert y.abs().max() < 0.005
    assert x.min().item() == pytest.approx(0.4 / 1.2, abs=0.01)
    assert x.max().item() == pytest.approx(0.4 / 0.8, abs=0.01)


def test_a_shear_moves_the_bottom_against_the_top():
    config = AugmentationConfig(shear=0.3)
    low, high = (augment(blob(y=y).repeat(500, 1, 1, 1), config, generator()) for y in (0.5, -0.5))
    torch.testing.assert_close(centre(low)[1], -centre(high)[1], atol=0.01, rtol=0)
    assert centre(low)[1].abs().max().item() == pytest.approx(0.15, abs=0.01)


def test_the_map_is_that_of_an_affine_grid_by_hand():
    image = torch.randn(1, 2, 9, 9, generator=generator(5))
    distorted = augment(image, AugmentationConfig(turn=20.0, zoom=0.2, shear=0.1, shift=0.1), generator(3))
    draw = generator(3)
    angle, scale, shear, x, y = (
        (2 * torch.rand(1, generator=draw) - 1) * most for most in (math.radians(20), 0.2, 0.1, 0.2, 0.2)
    )
    a = angle.item()
    by = 1 + scale.item()
    matrix = [
        [by * math.cos(a), shear.item() - by * math.sin(a), x.item()],
        [by * math.sin(a), by * math.cos(a), y.item()],
    ]
    grid = F.affine_grid(torch.tensor([matrix]), [1, 2, 9, 9], align_corners=False)
    torch.testing.assert_close(distorted, F.grid_sample(image, grid, padding_mode="border", align_corners=False))


def test_the_border_is_repeated_so_that_no_dark_edge_appears():
    config = AugmentationConfig(turn=45.0, zoom=0.5, shear=0.5, shift=0.5)
    torch.testing.assert_close(augment(torch.ones(50, 3, 8, 8), config, generator()), torch.ones(50, 3, 8, 8))


@pytest.mark.parametrize("name", ["turn", "zoom", "shear", "shift"])
@pytest.mark.parametrize("value", [-0.1, 45.1, float("nan")])
def test_bounds_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"{name} is {value}; it lies in \[0, "):
        AugmentationConfig(**{name: value})
