import json

import pytest

from fedlmd.calibration import PromiseCheck
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


def card_of(folder):
    return load_release(folder).card


def saved(folder, **data):
    """The shipped release, as if its images were elsewhere."""
    shipped = load_release(PRETRAINED_FOLDER)
    settings = {**shipped.card["settings"], "data": {**shipped.card["settings"]["data"], **data}}
    return save_release(folder, {**shipped.card, "settings": settings}, shipped.weights)


def test_train_makes_a_release_that_infer_and_calibrate_read(run, tmp_path, seven):
    (tmp_path / "tiny.toml").write_text(TINY)
    done = run("train", "--settings", "tiny.toml", "--labels", "2, 0", "--json", "made.json", "--threads", 1)
    made = json.loads((tmp_path / "made.json").read_text())
    card = card_of(tmp_path / made["release"])
    assert card["settings"]["labels"] == ["2", "0"]
    assert made["metrics"]["accuracy"] > 0.7
    *_, release, promise = done.stderr.splitlines()
    assert release.startswith(f"release {made['release']}: accuracy 0.")
    assert release.endswith(f"on {made['metrics']['images']} images")
    assert promise == PromiseCheck.from_json(card["calibration"]["promise"]).sentence
    done = run("calibrate", made["release"], "--alpha", 0.2, "--releases", "stricter", "--threads", 1)
    assert "false alarms on evaluation images" in done.stderr
    [stricter] = list_releases(tmp_path / "stricter")
    new = card_of(stricter)
    assert new["calibration"]["alpha"] == 0.2
    assert new["calibration"]["sketches"] == card["calibration"]["sketches"]
    assert new["settings"]["data"] == card["settings"]["data"]
    assert new["calibrated_from"] == card["id"]
    result = run("infer", stricter, seven, "--json", "-", "--threads", 1)
    prediction = json.loads(result.stdout)[str(seven)]
    assert prediction["alpha"] == 0.2
    assert prediction["prediction"] in (0, 2)


def test_train_says_before_training_what_it_chose_and_passed_over(run, tmp_path):
    run("data", "export", "mnist", "digits", "--labels", "0,1", "--limit", 3, "--image-size", 40)
    (tmp_path / "digits" / "train" / "0" / "notes.txt").write_text("text")
    (tmp_path / "tiny.toml").write_text(TINY + '[data]\nsource = "digits"\n')
    # Too few images to calibrate with: refused after the notes and before training.
    said = run("train", "--settings", "tiny.toml", "--threads", 1, status=1).stderr
    assert "images are brought from 40 to 32 pixels" in said
    assert "1 passed over: no image by its name (.txt)" in said
    assert not (tmp_path / "releases").exists()


def test_evaluate_prints_and_writes_its_figures(run, tmp_path):
    run("data", "export", "mnist", "known", "--labels", "0,1,2,3,4", "--limit", 20)
    asked = ("--source", "known", "--ood", "mnist", "--images", 8)
    result = run("evaluate", "pretrained", *asked, "--json", "report.json", "--threads", 1)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["known"] == report["unknown"] == 8
    assert report["classification"]["images"] == 100
    assert report["classification"]["accuracy"] > 0.99
    assert f"{report['separations']['verdict']['auroc']:.4f}" in result.stdout


def test_evaluate_takes_the_releases_own_evaluation_images_and_a_folder_without_labels(run, tmp_path):
    run("data", "export", "mnist", "whole", "--labels", "0,1,2,3,4,7", "--limit", 10)
    (tmp_path / "whole" / "eval").rename(tmp_path / "own")
    (tmp_path / "whole" / "train" / "7").rename(tmp_path / "strange")
    release = saved(tmp_path, source="own", evaluation=0.5)
    result = run("evaluate", release, "--ood", "strange", "--json", "-", "--threads", 1)
    report = json.loads(result.stdout)
    # Half of the 10 images of each of 5 known labels; and all 10 unknown images, which have no part to evaluate on.
    assert report["classification"]["images"] == report["known"] == 25
    assert report["unknown"] == 10
    report = json.loads(run("evaluate", release, "--ood", "own", "--json", "-", "--threads", 1).stdout)
    assert (report["known"], report["unknown"]) == (25, 10)


@pytest.mark.parametrize("command", [("evaluate", "--ood", "mnist"), ("calibrate",)])
def test_a_release_whose_images_are_gone_or_not_named_asks_for_a_source(run, tmp_path, command):
    name, *options = command
    refused = run(name, saved(tmp_path, source="gone"), *options, status=1)
    assert "the release's images were at 'gone', and nothing is there now; give --source" in str(refused.exception)
    shipped = load_release(PRETRAINED_FOLDER)
    settings = {key: value for key, value in shipped.card["settings"].items() if key != "data"}
    release = save_release(tmp_path, {**shipped.card, "settings": settings}, shipped.weights)
    assert "give --source" in str(run(name, release, *options, status=1).exception)


def test_calibrate_takes_no_images_that_the_release_may_have_been_trained_on(run, tmp_path):
    partition = {"kind": "iid", "workers": 2}
    refused = run("calibrate", saved(tmp_path, partition=partition), status=1)
    assert "was trained on a share of 'mnist', and does not say on which" in str(refused.exception)


def test_evaluate_refuses_unknown_images_of_known_labels_alone(run, tmp_path):
    run("data", "export", "mnist", "own", "--labels", "0,1,2,3,4", "--limit", 2)
    refused = run("evaluate", saved(tmp_path, source="own"), "--ood", "own", status=1)
    assert "the release knows every label of 'own'; give --ood other images" in str(refused.exception)


def test_a_known_label_without_an_image_to_evaluate_on_is_named(run, tmp_path):
    run("data", "export", "mnist", "some", "--labels", "1,4", "--limit", 4)
    result = run("evaluate", "pretrained", "--source", "some", "--ood", "mnist", "--images", 4, "--threads", 1)
    assert "warning: some has no image of the known label '0' to evaluate on" in result.stderr
    assert "accuracy 1.0000 on 8 known images" in result.stdout
