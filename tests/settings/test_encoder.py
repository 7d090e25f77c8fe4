"""What follows from a run's encoder: its channels, and the classifier behind it."""

import pytest

from fedlmd.data import PixelRules
from fedlmd.models import EncoderConfig, EncoderError
from fedlmd.settings import SettingsError, from_mapping
from fedlmd.settings.encoder import is_usual, measured
from tests.tiny_encoder import write_encoder

RULES = PixelRules(size=64, channels=3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLMD_ENCODERS", str(write_encoder(tmp_path)))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("given", "channels"), [(0, 9), (5, 5)])
def test_channels_are_as_many_as_the_maps_have_up_to_the_default(given, channels):
    assert measured(EncoderConfig("torchscript", weights="cells.pt", channels=given), RULES).channels == channels


def test_efficientnet_has_all_channels_of_its_finer_layer():
    pytest.importorskip("efficientnet_lite_pytorch")
    config = measured(EncoderConfig("efficientnet-lite0"), RULES)
    assert (config.channels, config.leading, config.features, config.side) == (112, 112, 304, 4)
    assert config.thumbnail == 16
    assert measured(EncoderConfig("efficientnet-lite0", thumbnail=0), RULES).thumbnail == 0
    with pytest.raises(EncoderError, match=r"encoder\.thumbnail is 18; it is a multiple of 4"):
        measured(EncoderConfig("efficientnet-lite0", thumbnail=18), RULES)


@pytest.mark.usefixtures("folder")
def test_other_encoders_have_no_thumbnail():
    assert measured(EncoderConfig("torchscript", weights="cells.pt"), RULES).thumbnail == 0
    with pytest.raises(EncoderError, match="set it to 0"):
        measured(EncoderConfig("torchscript", weights="cells.pt", thumbnail=16), RULES)


@pytest.mark.parametrize(("network", "channels"), [("auto", 160), ("blocks", 112), ("cnn", 112)])
def test_the_committee_alone_gets_the_thumbnail(network, channels):
    encoder = {"name": "efficientnet-lite0", "side": 10, "features": 304, "channels": 112, "leading": 112}
    settings = from_mapping({"encoder": {**encoder, "thumbnail": 40}, "models": {"classifier_network": network}})
    assert settings.networks.classifier.channels == channels
    assert settings.networks.denoiser.channels == 112
    assert ("thumbnail" in settings.detectors.verdict) == ("thumbnail" in settings.detectors.calibrated)
    assert ("thumbnail" in settings.detectors.verdict) == (channels == 160)


@pytest.mark.parametrize(
    ("encoder", "network"),
    [
        ({"name": "efficientnet-lite0", "side": 10, "features": 304, "channels": 112, "leading": 112}, "cnn+blocks"),
        ({"name": "efficientnet-lite0", "side": 10, "features": 112, "channels": 64, "layers": [10]}, "cnn"),
        ({"name": "torchscript", "weights": "a.pt", "side": 10, "features": 9, "channels": 9}, "cnn"),
        ({"name": "pixels"}, "cnn"),
    ],
)
def test_the_classifier_continues_the_encoder_where_it_can(encoder, network):
    settings = from_mapping({"encoder": encoder})
    assert settings.networks.classifier.network == network
    assert is_usual(settings.encoder) == (network == "cnn+blocks")


def test_several_views_leave_the_blocks_out_or_are_refused_with_them():
    encoder = {"name": "efficientnet-lite0", "side": 10, "features": 304, "channels": 112, "leading": 112}
    settings = from_mapping({"encoder": encoder, "models": {"views": 4}})
    assert settings.networks.classifier.network == "cnn"
    with pytest.raises(SettingsError, match="views is 4; with the classifier 'blocks' it is 1"):
        from_mapping({"encoder": encoder, "models": {"views": 4, "classifier_network": "blocks"}})


@pytest.mark.parametrize("encoder", [{"name": "pixels"}, {"name": "efficientnet-lite0", "layers": [7]}])
def test_blocks_behind_another_encoder_are_refused(encoder):
    with pytest.raises(SettingsError, match=r"models\.classifier_network.* continues the encoder .*take \"cnn\""):
        from_mapping({"encoder": encoder, "models": {"classifier_network": "blocks"}})
