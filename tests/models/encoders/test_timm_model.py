"""Networks of timm as encoders, against timm's own feature extraction. They need timm and a torchvision that fits."""

import pytest
import torch

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder, shape

try:
    import timm
except (ImportError, RuntimeError):
    pytest.skip("timm or its torchvision cannot be imported", allow_module_level=True)


def saved(name, path, **options):
    """A model with random weights, and the file of them."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, **options).eval()
    torch.save(model.state_dict(), path)
    return model


def load(model, folder, **fields):
    return load_encoder(EncoderConfig("timm", model=model, weights="net.pth", **fields), folder=folder)


def normalised(images, model):
    mean, deviation = (torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    return ((images + 1) / 2 - mean) / deviation


@pytest.mark.parametrize("layers", [(2,), (1, 3), ()])
def test_maps_are_those_of_timms_feature_extraction(layers, tmp_path):
    model, images = saved("resnet10t", tmp_path / "net.pth"), torch.rand(2, 3, 64, 64) * 2 - 1
    features = timm.create_model("resnet10t", pretrained=False, features_only=True, out_indices=layers or (3,)).eval()
    features.load_state_dict(model.state_dict(), strict=False)
    with torch.no_grad():
        first, *others = features(normalised(images, model))
    expected = [first, *(other.repeat_interleave(4, 2).repeat_interleave(4, 3) for other in others)]
    maps = load("resnet10t", tmp_path, layers=layers)(images)
    torch.testing.assert_close(maps, torch.cat(expected, dim=1), rtol=1e-4, atol=1e-4)


def test_a_vision_transformer_takes_images_of_other_sizes(tmp_path):
    saved("vit_tiny_patch16_224", tmp_path / "net.pth")
    encoder = load("vit_tiny_patch16_224", tmp_path, layers=(0,))
    assert shape(encoder, 64) == (192, 4, 4)
    with pytest.raises(EncoderError, match=r"cannot take images of 60 x 60: .*divisible by patch size"):
        shape(encoder, 60)


def test_weights_of_another_model_are_refused(tmp_path):
    saved("resnet10t", tmp_path / "net.pth")
    with pytest.raises(EncoderError, match=r"do not fit timm's model 'resnet18': .*Missing key"):
        load("resnet18", tmp_path)


def test_an_unknown_model_or_layer_is_refused(tmp_path):
    saved("resnet10t", tmp_path / "net.pth")
    with pytest.raises(EncoderError, match="timm has no model 'resnet11'"):
        load("resnet11", tmp_path)
    with pytest.raises(EncoderError, match=r"layers is \(5,\), but 'resnet10t' has the feature maps 0 to 4"):
        load("resnet10t", tmp_path, layers=(5,))


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    torch.save({"weight": Thing()}, tmp_path / "net.pth")
    with pytest.raises(EncoderError, match=r"do not fit timm's model 'resnet10t'.*[Ww]eights"):
        load("resnet10t", tmp_path)


class Thing:
    """No tensor."""
