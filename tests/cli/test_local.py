import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from fedlmd import artifacts
from fedlmd.cli import app, main
from fedlmd.data import load

TINY = """
labels = ["0", "1"]
[models]
classifier = [16, 16]
denoiser = [8, 16]
[classifier]
steps = 40
[denoiser]
steps = 5
batch_size = 16
[detector.lmd]
reconstructions = 2
inpainting = { steps = 2 }
[calibration]
images = 40
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)

    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def seven(tmp_path):
    Image.fromarray(load("mnist", "eval", labels=["7"]).pixels[0, 0].numpy()).save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def test_train_makes_a_release_that_infer_and_calibrate_read(run, tmp_path, seven):
    run("train", "--settings", "tiny.toml", "--labels", "2,0", "--json", "made.json", "--threads", 1)
    made = json.loads((tmp_path / "made.json").read_text())
    assert artifacts.load(tmp_path / made["release"]).card["settings"]["labels"] == ["2", "0"]
    assert made["metrics"]["accuracy"] > 0.7
    run("calibrate", made["release"], "--alpha", 0.2, "--releases", "stricter", "--threads", 1)
    [stricter] = artifacts.releases(tmp_path / "stricter")
    old, new = artifacts.load(tmp_path / made["release"]), artifacts.load(stricter)
    assert new.card["calibration"]["alpha"] == 0.2
    assert new.card["calibration"]["sketches"] == old.card["calibration"]["sketches"]
    assert new.card["calibrated_from"] == old.id
    said = run("infer", stricter, seven, "--json", "-", "--threads", 1)
    assert json.loads(said.stdout)[str(seven)]["alpha"] == 0.2


def test_infer_answers_with_the_shipped_release_and_draws_what_it_saw(run, tmp_path, seven):
    said = run("infer", "pretrained", seven, "--picture", "seen.png", "--threads", 1)
    assert "seven.png: unknown, closest to a " in said.stdout
    with Image.open(tmp_path / "seen.png") as picture:
        assert picture.width > 800


def test_evaluate_prints_and_writes_its_figures(run, tmp_path):
    said = run("evaluate", "pretrained", "--ood", "mnist", "--images", 20, "--json", "report.json", "--threads", 1)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["known"] == report["unknown"] == 20
    assert report["classification"]["accuracy"] > 0.99
    assert f"{report['separations']['verdict']['auroc']:.4f}" in said.stdout


def test_data_is_exported_and_counted(run, tmp_path):
    run("data", "export", "mnist", "digits", "--labels", "2,3", "--limit", 2)
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 8
    rows = [line.split("│") for line in run("data", "show", "digits").stdout.splitlines()[-2:]]
    assert [[cell.strip() for cell in row] for row in rows] == [["2", "2", "2"], ["3", "2", "2"]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["infer", "nowhere", "x.png"], "nowhere is not a release"),
        (["infer", "pretrained", "missing.png"], "missing.png"),
        (["evaluate", "pretrained", "--ood", "nowhere"], "there is no data at"),
        (["train", "--settings", "missing.toml"], "there is no settings file"),
        (["federate", "--server", "http://127.0.0.1:1"], "no node answers"),
        (["serve", "--role", "boss"], "it is server or worker"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_status_1(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["fedlmd", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
