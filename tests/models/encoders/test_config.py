"""Settings of the encoder."""

import pytest

from fedlmd.models.encoders import EncoderConfig


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": "pixels"},
        {"name": "efficientnet-lite0", "layers": (10, 15), "channels": 96},
        {
            "name": "torchscript",
            "weights": "hospital/net.pt",
            "digest": "0" * 64,
            "features": 12,
            "side": 10,
            "channels": 8,
        },
        {"name": "timm", "model": "vit_small_patch14_dinov2.lvd142m", "weights": "dino.safetensors"},
    ],
)
def test_settings_in_their_ranges_are_taken(fields):
    EncoderConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet"}, "there is no encoder 'resnet'; there are auto, pixels, efficientnet-lite0, torchscript"),
        ({"channels": -1}, "channels is -1; it is 0 or more"),
        ({"side": 10}, "channels is 0; where the side of the maps is known it is 1 or more"),
        ({"features": -1}, "features is -1; it is 0 or more"),
        ({"side": -1}, "side is -1; it is 0 or more"),
        ({"name": "onnx"}, "weights is empty; the encoder 'onnx' needs a file of the folder of encoders"),
        ({"name": "pixels", "weights": "a.pt"}, "weights is 'a.pt'; the encoder 'pixels' takes none"),
        ({"name": "timm", "weights": "a.pth"}, "model is ''; the encoder 'timm' needs a name such as 'resnet18'"),
        (
            {"name": "timm", "weights": "a.pth", "model": "hf-hub:a/b"},
            "model is 'hf-hub:a/b'; the encoder 'timm' needs",
        ),
        ({"name": "onnx", "weights": "a.onnx", "model": "b"}, "model is 'b'; the encoder 'onnx' takes none"),
        ({"layers": (10, 4)}, r"layers is \(10, 4\); they are numbers from 0 on, each once, in ascending order"),
        ({"layers": (4, 4)}, r"layers is \(4, 4\); they are numbers from 0 on"),
        ({"layers": (-1,)}, r"layers is \(-1,\); they are numbers from 0 on"),
        ({"digest": "abc"}, "digest is 'abc'; it is empty or a SHA-256 of 64 hexadecimal digits"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(fields, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**fields)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../net.pt", "a/../../net.pt", "https://example.org/net.pt", "C:net.pt", "..\\net.pt", "net\0.pt"],
)
def test_weights_that_are_no_name_inside_the_folder_are_refused(name):
    with pytest.raises(ValueError, match=r"weights is .*; it is the name of a file inside the folder of encoders"):
        EncoderConfig("torchscript", weights=name)
