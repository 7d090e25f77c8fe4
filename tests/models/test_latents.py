"""Latents: an encoder's maps, whitened."""

import numpy as np
import pytest
import torch

from fedlmd.calibration import cell_sums, whitening
from fedlmd.models import (
    EncoderConfig,
    EncoderError,
    LatentEncoder,
    cells_to_pixels,
    descriptors,
    load_encoder,
    pixels_to_cells,
)
from tests.tiny_encoder import Cells, write_encoder

IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLMD_ENCODERS", str(write_encoder(tmp_path)))
    named = EncoderConfig("torchscript", weights="cells.pt", channels=5, features=9, side=4)
    return EncoderConfig(**{**vars(named), "digest": load_encoder(named).digest})


def test_latents_are_the_projected_maps(config):
    weights = whitening(cell_sums(Cells()(IMAGES).half().numpy()), 5)
    encoder = LatentEncoder(config, {**weights, "classifier.x": np.zeros(1)})
    maps = Cells()(IMAGES).half().float()
    expected = torch.einsum(
        "cd,bdhw->bchw", torch.tensor(weights["encoder.projection"]),
        maps - torch.tensor(weights["encoder.mean"])[:, None, None],
    )  # fmt: skip
    torch.testing.assert_close(encoder(IMAGES)[:, :5], expected, rtol=1e-3, atol=2e-3)
    assert torch.equal(encoder(IMAGES), encoder.whitened(encoder.maps(IMAGES)).float())


def test_the_last_channels_hold_the_standardised_means_of_all_features(config):
    maps = Cells()(IMAGES).half().float()
    weights = whitening(cell_sums(maps.numpy()), 5)
    latents = LatentEncoder(config, weights)(IMAGES)
    vectors = maps.movedim(1, -1).flatten(0, 2)
    expected = (maps.mean((2, 3)) - vectors.mean(0)) / vectors.std(0, correction=0)
    torch.testing.assert_close(descriptors(latents, config), expected, rtol=3e-2, atol=3e-2)
    assert latents.shape == (4, 6, 4, 4)
    assert not latents[:, 5:].flatten(1)[:, 9:].any()


def test_latents_far_from_those_of_training_are_clipped(config):
    assert LatentEncoder(config, arrays(projection=1000))(IMAGES)[:, :5].abs().max() == 6.0


def test_without_an_encoder_images_are_their_own_latents():
    for name in ("auto", "pixels"):
        assert LatentEncoder(EncoderConfig(name))(IMAGES) is IMAGES


def arrays(size=9, **values):
    parts = {"mean": np.zeros(size), "projection": np.zeros((5, size)), "deviation": np.ones(size)}
    return {f"encoder.{name}": array + values.get(name, 0) for name, array in parts.items()}


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"encoder.mean": np.zeros(9)}, "has not the shapes"),
        (arrays(8), "has not the shapes"),
        (arrays(projection=np.nan), "not finite"),
        (arrays(deviation=-1), "not above 0"),
    ],
)
def test_a_whitening_of_another_form_is_refused(config, weights, reason):
    with pytest.raises(ValueError, match=reason):
        LatentEncoder(config, weights)


def test_latents_without_a_whitening_and_maps_of_another_shape_are_refused(config):
    with pytest.raises(EncoderError, match=r"whitening .* is missing"):
        LatentEncoder(config)(IMAGES)
    with pytest.raises(EncoderError, match=r"the shape \(4, 9, 2, 2\)"):
        LatentEncoder(config).maps(IMAGES[..., :32, :32])


def test_another_file_of_the_same_name_is_refused(config):
    other = EncoderConfig(**{**vars(config), "digest": "0" * 64})
    with pytest.raises(EncoderError, match="digest 000000000000"):
        LatentEncoder(other).maps(IMAGES)


def test_a_thumbnail_is_the_mean_of_its_pixels_and_changes_nothing_else(config):
    weights = whitening(cell_sums(Cells()(IMAGES).half().numpy()), 5)
    with_one = EncoderConfig(**{**vars(config), "thumbnail": 16})
    assert with_one.thumbnail_channels == 48
    without, latents = (LatentEncoder(each, weights)(IMAGES) for each in (config, with_one))
    assert torch.equal(latents[:, :5], without[:, :5])
    assert torch.equal(descriptors(latents, with_one), descriptors(without, config))
    means = IMAGES.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5))
    torch.testing.assert_close(cells_to_pixels(latents[:, 5:53], 16), means, atol=1e-3, rtol=0)
    assert torch.equal(cells_to_pixels(pixels_to_cells(means, 4), 16), means)


def test_a_thumbnail_is_a_multiple_of_the_maps(config):
    with pytest.raises(ValueError, match="thumbnail is 18; it is a multiple of 4"):
        EncoderConfig(**{**vars(config), "thumbnail": 18})
