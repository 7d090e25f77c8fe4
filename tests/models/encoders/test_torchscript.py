"""TorchScript files as encoders."""

import pytest
import torch

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder, shape
from tests.models.encoders.conftest import Means, Pooled, means, scripted


def config(weights="means.pt", **fields):
    return EncoderConfig("torchscript", weights=weights, **fields)


@pytest.mark.usefixtures("folder")
def test_all_maps_of_a_file_are_concatenated(images):
    encoder = load_encoder(config())
    assert torch.equal(encoder(images), means(images))
    assert shape(encoder, 8) == (7, 4, 4)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("layer", [0, 1])
def test_layers_choose_among_the_maps(images, layer):
    assert torch.equal(load_encoder(config(layers=(layer,)))(images), Means()(images)[layer])


@pytest.mark.usefixtures("folder")
def test_a_layer_that_there_is_not_is_refused(images):
    with pytest.raises(EncoderError, match=r"layers is \(2,\), but the encoder has the maps 0 to 1; choose of these"):
        load_encoder(config(layers=(2,)))(images)


def test_a_file_that_gives_a_vector_is_refused(folder, images):
    scripted(Pooled(), folder / "pooled.pt")
    with pytest.raises(EncoderError, match=r"is a tensor \(1, 3\) .*take the output of a layer before the pooling"):
        load_encoder(config("pooled.pt"))(images)


def test_a_file_without_a_network_is_refused(folder):
    torch.save({"weight": torch.zeros(3)}, folder / "state.pt")
    (folder / "text.pt").write_text("no network")
    for name in ("state.pt", "text.pt"):
        with pytest.raises(EncoderError, match=f"{name}' is no TorchScript, as torch.jit.save writes it"):
            load_encoder(config(name))
