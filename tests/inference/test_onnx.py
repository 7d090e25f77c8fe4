"""An exported release under ONNX Runtime: the outputs and decisions of the release itself."""

import copy
import hashlib
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.calibration import decide
from fedlmd.data import load, to_unit_range
from fedlmd.inference import Predictor
from fedlmd.inference.onnx import (
    NAMES,
    OnnxError,
    graph_of,
    largest_difference,
    optional,
    run_graph,
    write_folder,
)
from fedlmd.inference.onnx.folder import checked, self_test_images
from fedlmd.inference.onnx.graph import Tracing
from fedlmd.release import PRETRAINED_FOLDER, SHIPPED, Release, load_release, patterns


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_release(PRETRAINED_FOLDER))


@pytest.fixture(scope="module")
def exported(predictor, tmp_path_factory):
    """The folder of the shipped release of 0 to 4, and the difference that was measured."""
    folder = tmp_path_factory.mktemp("exports") / "new" / "folder"
    jaxtyping.config.update("jaxtyping_disable", True)  # symbols stand for the number of images while it is traced
    try:
        difference = write_folder(predictor, folder)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return folder, difference


@pytest.fixture(scope="module")
def about(exported):
    return json.loads((exported[0] / "model.json").read_text())


@pytest.fixture(scope="module")
def digits():
    """500 digits, half of them unknown: float32 in [-1, 1]."""
    return load("mnist", "eval").images(range(500))


@pytest.fixture(scope="module")
def predictions(predictor, digits):
    return predictor.predict(digits)


@pytest.fixture(scope="module")
def outputs(exported, digits):
    return run_graph(exported[0] / "model.onnx", digits.numpy())


def test_five_hundred_images_get_the_outputs_of_the_release_and_every_decision(predictor, outputs, digits, predictions):
    logits, scores = predictor.outputs(digits, ["verdict"])
    assert list(outputs) == ["logits", "probabilities", "mahalanobis", "one-step", "verdict", "is_ood"]
    assert np.abs(outputs["logits"] - logits.numpy()).max() < 1e-4
    assert np.abs(outputs["probabilities"] - logits.softmax(1).numpy()).max() < 1e-4
    for name, values in scores.items():
        assert np.abs(outputs[name] - values.numpy()).max() < 1e-4
    assert outputs["is_ood"].tolist() == [p.is_ood for p in predictions]
    assert outputs["logits"].argmax(1).tolist() == [p.prediction for p in predictions]
    assert 0.4 < outputs["is_ood"].mean() < 0.6


@pytest.mark.parametrize("count", [1, 2, 3, 65])
def test_an_image_gets_the_same_outputs_in_a_batch_of_any_size(exported, outputs, digits, count):
    for name, values in run_graph(exported[0] / "model.onnx", digits[:count].numpy()).items():
        assert values == pytest.approx(outputs[name][:count], abs=1e-4)


def test_p_values_thresholds_and_verdicts_follow_from_the_file_around_it(predictor, outputs, about, predictions):
    assert about["labels"] == list("01234")
    assert about["release"] == predictor.release.id
    p_values = by_steps(about["references"]["verdict"], outputs["verdict"])
    assert p_values.tolist() == pytest.approx([p.p_value for p in predictions], abs=1e-3)
    assert (p_values <= about["alpha"]).tolist() == [p.is_ood for p in predictions]
    assert about["threshold"] == predictions[0].threshold
    for alpha, threshold in about["thresholds"].items():
        assert (threshold or np.inf) == predictor.references["verdict"].threshold(float(alpha))
    plausible = by_steps(about["references"]["class"], -np.log(outputs["probabilities"])) > about["alpha"]
    verdicts = [
        decide(p, about["alpha"], about["alpha_uncertain"], int(labels.sum()))
        for p, labels in zip(p_values, plausible, strict=True)
    ]
    assert verdicts == [p.verdict for p in predictions]


def by_steps(reference, scores):
    return np.array([1, *reference["tails"]])[np.searchsorted(reference["points"], scores)]


def test_the_verdict_is_the_sum_of_its_parts_by_the_file_around_it(about, outputs):
    parts = [(outputs[name] - scale["mean"]) / scale["std"] for name, scale in about["verdict"].items()]
    assert np.sum(parts, axis=0) == pytest.approx(outputs["verdict"], abs=1e-4)


def test_the_self_test_is_in_the_file_around_it(exported, about):
    folder, difference = exported
    images = to_unit_range(torch.from_numpy(patterns(1, 28))).numpy()
    assert about["self_test"]["digest"] == hashlib.sha256(images.tobytes()).hexdigest()
    assert difference < 1e-5
    for name, values in run_graph(folder / "model.onnx", images).items():
        assert np.asarray(about["self_test"]["outputs"][name]) == pytest.approx(values, abs=1e-4)


def test_the_code_of_the_readme_predicts_an_image_file_without_this_package(exported, digits, predictions):
    folder, _ = exported
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    blocked = "import sys; sys.modules['fedlmd'] = sys.modules['torch'] = None\n"
    (folder / "predict.py").write_text(blocked + code)
    pixels = ((digits + 1) * 127.5).round().to(torch.uint8)
    for number in (0, 3):
        Image.fromarray(pixels[number, 0].numpy()).save(folder / "image.png")
        command = [sys.executable, "predict.py", "image.png"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        label, verdict, p_value = done.stdout.split()
        assert label == predictions[number].label
        assert verdict == ("unknown" if predictions[number].is_ood else "known")
        assert float(p_value) == pytest.approx(predictions[number].p_value, abs=1e-3)


def test_the_graph_holds_no_path_of_this_machine(exported):
    data = (exported[0] / "model.onnx").read_bytes()
    assert not [text for text in (b"site-packages", b"fedlmd/", b".py", b"forward") if text in data]


def test_a_graph_of_another_release_is_not_written(exported):
    other = Predictor(load_release(SHIPPED["digits-0-9"]))
    with pytest.raises(OnnxError, match="the graph"):
        checked(other, (exported[0] / "model.onnx").read_bytes(), self_test_images(other))


def test_an_output_that_is_missing_off_or_decides_otherwise_is_found(predictor, outputs, digits):
    images, outputs = digits[:40].numpy(), {name: values[:40] for name, values in outputs.items()}

    def altered(**changes):
        return largest_difference(predictor, images, {**outputs, **changes})

    assert altered() < 1e-5
    assert altered(logits=outputs["logits"] * 1.01) == pytest.approx(0.01, rel=0.01)
    assert altered(verdict=outputs["verdict"] * np.nan) == np.inf
    with pytest.raises(OnnxError, match=r"decides otherwise on \d+ of 40"):
        altered(is_ood=~outputs["is_ood"])
    with pytest.raises(OnnxError, match="the graph gives logits; logits, probabilities, "):
        largest_difference(predictor, images, {"logits": outputs["logits"]})


def test_a_folder_with_files_is_left_alone(predictor, exported):
    before = {name: (exported[0] / name).read_bytes() for name in NAMES}
    with pytest.raises(OnnxError, match="not empty"):
        write_folder(predictor, exported[0])
    assert {name: (exported[0] / name).read_bytes() for name in NAMES} == before


def test_lmd_of_many_steps_in_the_verdict_is_refused(predictor):
    card = copy.deepcopy(predictor.release.card)
    del card["self_test"]
    card["settings"]["detector"]["verdict"] = ["lmd"]
    card["settings"]["detector"]["lmd"]["inpainting"]["steps"] = 9
    with pytest.raises(OnnxError, match=r"LMD of 9 steps, and each would be a copy .* 8 at most"):
        graph_of(Predictor(Release("0" * 12, card, predictor.release.weights)))


def test_a_missing_package_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OnnxError, match=r"needs onnxscript.*pip install 'fedlmd\[onnx\]'"):
        optional("onnxscript")


def test_random_draws_are_recorded_and_given_again_in_their_order():
    def draws():
        generator = torch.Generator().manual_seed(3)
        return SimpleNamespace(a=torch.randn(4, generator=generator), b=torch.rand(2, generator=generator))

    with Tracing() as recorded:
        first = draws()
    with Tracing([*recorded.draws]):
        again = draws()
    assert again.a is first.a
    assert again.b is first.b
