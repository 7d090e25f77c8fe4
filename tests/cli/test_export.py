"""``fedlmd export``: from a release to a folder that ONNX Runtime runs."""

import copy
import json

import numpy as np
import pytest

from fedlmd.data import load
from fedlmd.inference import Predictor
from fedlmd.inference.onnx import run_graph
from fedlmd.release import load_release, save_release


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_a_release_with_lmd_by_mahalanobis_distances_in_its_verdict_is_written_and_run(run, tiny_result, tmp_path):
    card = copy.deepcopy(tiny_result.metrics["card"])
    del card["self_test"]
    card["settings"]["detector"]["verdict"] = ["max-logit", "lmd"]
    card["settings"]["detector"]["lmd"]["inpainting"]["steps"] = 2
    card["settings"]["detector"]["lmd"]["distance"] = "mahalanobis"
    release = load_release(save_release(tmp_path / "releases", card, tiny_result.weights))
    result = run("export", f"releases/{release.id}", "--onnx", "--threads", 1)
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith(f"written to {release.id}-onnx: model.onnx, model.json, README.md, ")
    assert second.startswith("ONNX Runtime's outputs on the self-test are off by ")
    folder, images = tmp_path / f"{release.id}-onnx", load("mnist", "eval").images(range(20))
    assert json.loads((folder / "model.json").read_text())["release"] == release.id
    outputs = run_graph(folder / "model.onnx", images.numpy())
    predictions = Predictor(release).predict(images)
    for name in ("max-logit", "lmd", "verdict"):
        np.testing.assert_allclose(outputs[name], [p.scores[name] for p in predictions], rtol=1e-5, atol=1e-4)
    assert outputs["is_ood"].tolist() == [p.is_ood for p in predictions]


def test_a_form_has_to_be_named(run):
    assert str(run("export", "pretrained", status=1).exception) == "say in which form the release is written: --onnx"


def test_an_unknown_worker_and_a_folder_with_files_are_refused(run, tmp_path):
    (tmp_path / "file.txt").write_text("text")
    worker = run("export", "pretrained", "--onnx", "--worker", "nobody", status=1)
    assert "has no calibration of a worker 'nobody'" in str(worker.exception)
    assert "not empty" in str(run("export", "pretrained", "--onnx", "--output", ".", status=1).exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]
