"""An encoder that is a torch network."""

import pytest
import torch
from torch import nn

from fedlmd.models.encoders import EncoderError, NetworkEncoder


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout(0.5))


def test_images_are_normalised_as_the_networks_were(images):
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    pixels = (images + 1) / 2
    expected = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    torch.testing.assert_close(NetworkEncoder(nn.Identity(), "", mean, deviation)(images), expected)
    assert torch.equal(NetworkEncoder(nn.Identity(), "")(images), images)


def test_the_network_stays_frozen_in_evaluation_mode(network, images):
    encoder = NetworkEncoder(network, "")
    before = encoder(images)
    nn.ModuleList([encoder]).train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder(images.requires_grad_()), before)
    assert not before.requires_grad


def test_maps_can_be_trained_on(network, images):
    weight = torch.ones((), requires_grad=True)
    (weight * NetworkEncoder(network, "")(images)).sum().backward()
    assert weight.grad is not None


def test_images_in_double_precision_are_encoded_in_single(network, images):
    encoder = NetworkEncoder(network, "")
    assert encoder(images.double()).dtype == torch.float32
    assert torch.equal(encoder(images.double()), encoder(images))


def test_grey_images_are_refused(network):
    with pytest.raises(EncoderError, match="the encoder takes images of 3 channels, these have 1; set channels to 3"):
        NetworkEncoder(network, "")(torch.zeros(2, 1, 8, 8))


def test_an_exported_encoder_takes_any_number_of_images(network, images):
    encoder = NetworkEncoder(network, "")
    program = torch.export.export(encoder, (images,), dynamic_shapes=({0: torch.export.Dim("n")},))
    more = torch.cat([images, -images])
    torch.testing.assert_close(program.module()(more), encoder(more))
