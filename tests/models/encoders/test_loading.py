"""Loading an encoder: its digest, its file, and encoders of other packages."""

import sys

import pytest
import torch

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder
from tests.models.encoders.conftest import Means, Pooled, scripted


@pytest.mark.usefixtures("folder")
def test_an_encoder_is_built_once(folder):
    config = EncoderConfig("torchscript", weights="means.pt")
    assert load_encoder(config) is load_encoder(config, folder=folder)
    assert load_encoder(EncoderConfig("torchscript", weights="means.pt", layers=(1,))) is not load_encoder(config)


def test_a_replaced_file_is_loaded_anew(folder, images):
    config = EncoderConfig("torchscript", weights="means.pt")
    before = load_encoder(config)
    scripted(torch.nn.AvgPool2d(2), folder / "means.pt")
    after = load_encoder(config)
    assert after.digest != before.digest
    assert torch.equal(after(images), Means()(images)[0][:, :3])


@pytest.mark.usefixtures("folder")
def test_the_digest_of_a_run_is_accepted():
    digest = load_encoder(EncoderConfig("torchscript", weights="means.pt")).digest
    assert load_encoder(EncoderConfig("torchscript", weights="means.pt", digest=digest)).digest == digest


def test_weights_of_another_digest_are_refused_before_they_are_read(folder):
    (folder / "means.pt").write_text("no TorchScript at all")
    with pytest.raises(EncoderError) as caught:
        load_encoder(EncoderConfig("torchscript", weights="means.pt", digest="12ab" * 16))
    assert str(caught.value) == (
        "the run or release was made with the encoder 'torchscript' of digest 12ab12ab12ab, here it is 0ef6271e4d7c; "
        "copy the same weights into the folder of encoders, or install the same package of them"
    )


def test_weights_of_a_package_are_checked_too():
    with pytest.raises(EncoderError, match="'efficientnet-lite0' of digest 12ab12ab12ab, here it is "):
        load_encoder(EncoderConfig("efficientnet-lite0", digest="12ab" * 16))


def test_the_argument_names_another_folder(folder, tmp_path, images):
    scripted(Pooled(), tmp_path / "means.pt")
    with pytest.raises(EncoderError, match="before the pooling"):
        load_encoder(EncoderConfig("torchscript", weights="means.pt"), folder=tmp_path)(images)


def test_the_pixels_are_their_own_maps(images):
    assert load_encoder(EncoderConfig("pixels"))(images) is images
    assert load_encoder(EncoderConfig("pixels")).digest == ""


def test_an_encoder_that_is_not_decided_is_not_built():
    with pytest.raises(EncoderError, match="the encoder 'auto' is decided by a run's images"):
        load_encoder(EncoderConfig())


PLUGIN = """
import torch

class Mirrored:
    def __init__(self, source):
        self.digest = source.digest
        self.weights = torch.load(source.path, weights_only=True)

    def __call__(self, images):
        return images.flip(-1) * self.weights
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package on the path that registers the encoder "mirrored"."""
    (tmp_path / "test_encoders_plugin.py").write_text(PLUGIN)
    info = tmp_path / "test_encoders_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: test-encoders-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedlmd.encoders]\nmirrored = test_encoders_plugin:Mirrored\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("test_encoders_plugin", None)


@pytest.mark.usefixtures("installed")
def test_another_package_brings_an_encoder(folder, images):
    torch.save(torch.tensor(3.0), folder / "three.pth")
    encoder = load_encoder(EncoderConfig("mirrored", model="any", weights="three.pth", layers=(2,)))
    assert torch.equal(encoder(images), 3 * images.flip(-1))
    assert len(encoder.digest) == 64
    with pytest.raises(EncoderError, match="the encoder needs weights: the name of a file of the folder of encoders"):
        load_encoder(EncoderConfig("mirrored"))
