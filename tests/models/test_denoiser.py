"""The denoiser's shapes and labels, and what federated averaging needs of it."""

import math

import pytest
import torch
from torch import nn

from fedlmd.diffusion import Denoiser
from fedlmd.models import DenoiserConfig, UNet
from fedlmd.models.denoiser import sinusoid


def build(**values):
    """An untrained network, its output layers not zero as they start, so that every part of it matters."""
    torch.manual_seed(0)
    model = UNet(DenoiserConfig(**{"widths": (8, 16), **values})).eval()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.2)
    return model


def batch(count=4, channels=1, size=28):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, size, size, generator=generator), torch.arange(count) * 200


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, 28),
        ({"channels": 3, "classes": 2, "blocks": 2}, 28),
        ({"image_size": 32, "widths": (8, 8, 16)}, 32),
        ({"image_size": 6, "widths": (8,), "patch": 3}, 6),
    ],
)
def test_a_velocity_has_the_shape_of_its_image(values, size):
    model = build(**values)
    x_t, t = batch(3, model.config.channels, size)
    assert isinstance(model, Denoiser)
    assert model(x_t, t).shape == model(x_t, t, torch.tensor([0, 1, 0])).shape == x_t.shape


def test_an_untrained_network_predicts_the_same_for_every_image():
    model, (x_t, t) = UNet(DenoiserConfig(widths=(8, 16))), batch()
    assert torch.equal(model(x_t, t)[:1].expand_as(x_t), model(x_t, t))


def test_no_label_is_the_index_after_the_last_class():
    model, (x_t, t) = build(classes=3), batch()
    unlabelled = model(x_t, t)
    assert torch.equal(unlabelled, model(x_t, t, torch.full((4,), 3)))
    for label in range(3):
        assert not torch.allclose(unlabelled, model(x_t, t, torch.full((4,), label)))
    with pytest.raises(IndexError):
        model(x_t, t, torch.full((4,), 4))


def test_the_noise_level_matters():
    model, (x_t, t) = build(), batch()
    assert not torch.allclose(model(x_t, t), model(x_t, t + 100))


def test_an_images_velocity_does_not_depend_on_its_batch():
    model, (x_t, t) = build(), batch()
    label = torch.tensor([0, 1, 2, 10])
    alone = model(x_t[2:3], t[2:3], label[2:3])
    torch.testing.assert_close(model(x_t, t, label)[2:3], alone, atol=1e-5, rtol=1e-5)


def test_every_stored_value_is_a_trained_weight_so_that_all_of_it_averages():
    model = build()
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]
    assert not list(model.buffers())


def test_the_only_normalisation_is_over_groups():
    kinds = {type(module) for module in build().modules() if "Norm" in type(module).__name__}
    assert kinds == {nn.GroupNorm}


def test_every_weight_takes_part():
    model, (x_t, t) = build(), batch()
    model(x_t, t, torch.tensor([0, 1, 2, 3])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_noise_level_is_told_in_sines_and_cosines_by_value():
    embedded = sinusoid(torch.tensor([0, 7]), width=4)
    expected = [[0.0, 0.0, 1.0, 1.0], [math.sin(7), math.sin(0.07), math.cos(7), math.cos(0.07)]]
    torch.testing.assert_close(embedded, torch.tensor(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": 30}, "image_size 30 must be a multiple of 4 for 2 widths"),
        ({"image_size": 28, "widths": (8, 8, 8, 8)}, "multiple of 16 for 4 widths"),
        ({"widths": (8, 20)}, r"widths \(8, 20\) must be one or more multiples of 8"),
        ({"widths": ()}, "one or more multiples of 8"),
        ({"widths": (0, 8)}, "one or more multiples of 8"),
        ({"blocks": 0}, "blocks is 0; it is 1 or more"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_with_the_reason(values, message):
    with pytest.raises(ValueError, match=message):
        DenoiserConfig(**values)
