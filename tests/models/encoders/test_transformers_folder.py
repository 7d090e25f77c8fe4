"""Models of Hugging Face transformers as encoders. The package is heavy: a process of its own loads it, where it is
installed."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder

ROOT = Path(__file__).parents[3]

RUN = """
import json, os, sys
from pathlib import Path
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import (
    BertConfig, BertModel, Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel,
    ResNetConfig, ResNetModel, ViTConfig, ViTForImageClassification, ViTModel,
)
from fedlmd.models.encoders import EncoderConfig, EncoderError, load_encoder, shape

torch.manual_seed(0)
folder = Path(sys.argv[1])
small = dict(hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, image_size=56)
models = {
    "dinov2": Dinov2Model(Dinov2Config(patch_size=14, **small)),
    "registers": Dinov2WithRegistersModel(Dinov2WithRegistersConfig(patch_size=14, **small)),
    "vit": ViTModel(ViTConfig(patch_size=8, **small)),
    "classifier": ViTForImageClassification(ViTConfig(patch_size=8, **small)),
    "resnet": ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
    "bert": BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
                                 intermediate_size=8)),
}
mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
for name, model in models.items():
    model.eval().save_pretrained(folder / name)
    text = json.dumps({"image_mean": mean, "image_std": deviation})
    (folder / name / "preprocessor_config.json").write_text(text)

def load(name, *layers):
    return load_encoder(EncoderConfig("transformers", weights=name, layers=layers), folder=folder)

def message(call):
    try:
        call()
    except EncoderError as error:
        return str(error)

def difference(first, second):
    return float((first - second).abs().max()) if first.shape == second.shape else str((first.shape, second.shape))

images = torch.rand(2, 3, 56, 56) * 2 - 1
inputs = ((images + 1) / 2 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
result = {}
with torch.no_grad():
    for name, extra, side in (("dinov2", 1, 4), ("registers", 5, 4), ("vit", 1, 7)):
        output = models[name](inputs, output_hidden_states=True)
        grids = [state[:, extra:].reshape(2, side, side, 24).permute(0, 3, 1, 2)
                 for state in (output.last_hidden_state, *output.hidden_states[1:])]
        result[name] = difference(load(name)(images), grids[0])
        result[f"{name} layer"] = difference(load(name, 1)(images), grids[2])
    body = models["classifier"].vit(inputs).last_hidden_state[:, 1:].reshape(2, 7, 7, 24).permute(0, 3, 1, 2)
    result["classifier"] = difference(load("classifier")(images), body)
    result["resnet"] = difference(load("resnet")(images), models["resnet"](inputs).last_hidden_state)
result["shape"] = shape(load("vit"), 64)
result["patch"] = message(lambda: shape(load("dinov2"), 60))
result["text"] = message(lambda: load("bert"))

from safetensors.torch import load_file, save_file
path = folder / "dinov2" / "model.safetensors"
tensors = load_file(path)
save_file({name: value for name, value in tensors.items() if "layer.2" not in name}, path, {"format": "pt"})
result["lacking"] = message(lambda: load("dinov2"))
torch.save(tensors, folder / "dinov2" / "pytorch_model.bin")
path.unlink()
result["pickle"] = message(lambda: load("dinov2"))
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    folder = tmp_path_factory.mktemp("encoders")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", RUN, str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["dinov2", "registers", "vit"])
def test_tokens_of_patches_become_a_grid(result, name):
    assert result[name] < 1e-5
    assert result[f"{name} layer"] < 1e-5


def test_the_maps_of_a_convolutional_network_and_of_a_classifiers_body_are_taken(result):
    assert result["resnet"] < 1e-5
    assert result["classifier"] < 1e-5


def test_images_of_other_sizes_are_encoded_where_patches_divide_them(result):
    assert result["shape"] == [24, 8, 8]
    assert result["patch"] == (
        "the encoder's patches have 14 pixels, and 60 is no multiple of it; set image_size to 56 or 70"
    )


def test_a_folder_without_all_weights_of_a_vision_model_is_refused(result):
    assert "lacks weights of its model, such as encoder.layer.2." in result["lacking"]
    assert "takes no images; choose a vision model" in result["text"]


def test_pickles_are_not_read(result):
    assert "transformers cannot load a model from" in result["pickle"]


@pytest.mark.parametrize("text", ["[]", "{", '{"image_mean": [0.5]}', '{"image_std": [0.5, 0, 0.5]}', None])
def test_a_folder_without_the_normalisation_is_refused(tmp_path, text):
    from fedlmd.models.encoders.transformers_folder import normalisation  # noqa: PLC0415 - after the hook

    if text is not None:
        (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(EncoderError, match=r"preprocessor_config.json' (cannot be read|has no image_mean)"):
        normalisation(tmp_path)


def test_without_its_extra_the_encoder_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"'transformers' needs the extra: pip install 'fedlmd\[transformers\]'"):
        load_encoder(EncoderConfig("transformers", weights="net"), folder=tmp_path)
