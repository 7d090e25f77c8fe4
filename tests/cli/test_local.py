import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.data import load
from fedlmd.release import PRETRAINED_FOLDER, list_releases, load_release, save_release

TINY = """
labels = ["0", "1"]
[models]
classifier = [16, 16]
denoiser = [8, 16]
views = 1
[classifier]
steps = 40
batch_size = 48
[denoiser]
steps = 5
batch_size = 16
[detector.lmd]
reconstructions = 2
inpainting = { steps = 2 }
[calibration]
images = 40
described = 200
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def seven(tmp_path):
    Image.fromarray(load("mnist", "eval", labels=["7"]).pixels[0, 0].numpy()).save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def test_train_makes_a_release_that_infer_and_calibrate_read(run, tmp_path, seven):
    run("train", "--settings", "tiny.toml", "--labels", "2,0", "--json", "made.json", "--threads", 1)
    made = json.loads((tmp_path / "made.json").read_text())
    assert load_release(tmp_path / made["release"]).card["settings"]["labels"] == ["2", "0"]
    assert made["metrics"]["accuracy"] > 0.7
    run("calibrate", made["release"], "--alpha", 0.2, "--releases", "stricter", "--threads", 1)
    [stricter] = list_releases(tmp_path / "stricter")
    old, new = load_release(tmp_path / made["release"]), load_release(stricter)
    assert new.card["calibration"]["alpha"] == 0.2
    assert new.card["calibration"]["sketches"] == old.card["calibration"]["sketches"]
    assert new.card["calibrated_from"] == old.id
    result = run("infer", stricter, seven, "--json", "-", "--threads", 1)
    prediction = json.loads(result.stdout)[str(seven)]
    assert prediction["alpha"] == 0.2
    assert prediction["prediction"] in (0, 2)


def test_infer_predicts_with_the_shipped_release_and_draws_its_explanation(run, tmp_path, seven):
    result = run("infer", "pretrained", seven, "--picture", "seen.png", "--threads", 1)
    assert "seven.png: unknown, closest to a " in result.stdout
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.width > 800


def test_evaluate_prints_and_writes_its_figures(run, tmp_path):
    run("data", "export", "mnist", "known", "--labels", "0,1,2,3,4", "--limit", 20)
    asked = ("--source", "known", "--ood", "mnist", "--images", 8)
    result = run("evaluate", "pretrained", *asked, "--json", "report.json", "--threads", 1)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["known"] == report["unknown"] == 8
    assert report["classification"]["images"] == 100
    assert report["classification"]["accuracy"] > 0.99
    assert f"{report['separations']['verdict']['auroc']:.4f}" in result.stdout


def test_data_is_exported_and_counted(run, tmp_path):
    run("data", "export", "mnist", "digits", "--labels", "2,3", "--limit", 2)
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 8
    rows = [line.split("│") for line in run("data", "show", "digits").stdout.splitlines()[-2:]]
    assert [[cell.strip() for cell in row] for row in rows] == [["2", "2", "2"], ["3", "2", "2"]]


def test_infer_compares_with_the_named_workers_calibration(run, tmp_path, seven):
    shipped = load_release(PRETRAINED_FOLDER)
    calibration = shipped.card["calibration"]
    higher = {
        name: {**sketch, "values": [value + 5 for value in sketch["values"]]}
        for name, sketch in calibration["sketches"].items()
    }
    calibration = {**calibration, "sites": {"low": calibration["sketches"], "high": higher}}
    folder = save_release(tmp_path, {**shipped.card, "calibration": calibration}, shipped.weights)
    low, high = (
        json.loads(run("infer", folder, seven, "--worker", name, "--json", "-", "--threads", 1).stdout)[str(seven)]
        for name in ("low", "high")
    )
    assert low["score"] == pytest.approx(high["score"])
    assert high["threshold"] - low["threshold"] == pytest.approx(5, abs=0.5)
