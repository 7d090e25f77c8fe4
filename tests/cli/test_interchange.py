"""A release with a denoiser of diffusers, from the folder to a prediction and back to a folder."""

import json

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from fedlmd.cli.interchange import with_denoiser
from fedlmd.models import build
from fedlmd.models.interchange import read_checkpoint
from fedlmd.release import PRETRAINED_FOLDER, ReleaseError, list_releases, load_release, save_release
from fedlmd.settings import from_mapping

FAST = """
[detector.lmd]
condition = "{condition}"
reconstructions = 1
inpainting = {{ steps = 2 }}
[detector.one_step]
condition = "{condition}"
distance = "mse"
[calibration]
images = 40
alpha = 0.2
"""


def checkpoint(folder, scheduler=None, **changes):
    """A small untrained network for digits, as diffusers saves a pipeline."""
    torch.manual_seed(0)
    network = UNet2DModel(
        **{
            "sample_size": 28,
            "in_channels": 1,
            "out_channels": 1,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            **changes,
        }
    )
    DDPMPipeline(network, scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


def schedule_of(release):
    return release.card["settings"]["schedule"]


def test_a_checkpoint_becomes_the_denoiser_of_a_release_that_predicts(run, tmp_path, seven):
    checkpoint(tmp_path / "cat")
    (tmp_path / "fast.toml").write_text(FAST.format(condition="none"))
    asked = ("--denoiser", "cat", "--settings", "fast.toml", "--threads", 1)
    run("calibrate", "digits-0-4", *asked)
    [folder] = list_releases(tmp_path / "releases")
    made, shipped = load_release(folder), load_release(PRETRAINED_FOLDER)
    assert made.card["denoiser_from"] == "diffusers: cat"
    assert made.card["calibrated_from"] == shipped.id
    assert schedule_of(made) == {"steps": 1000, "kind": "linear"}
    for name, array in shipped.weights.items():
        assert name.startswith("denoiser.") or np.array_equal(made.weights[name], array)
    result = run("infer", folder, seven, "--json", "-", "--threads", 1)
    assert json.loads(result.stdout)[str(seven)]["release"] == made.id
    run("export-denoiser", folder, "back")
    assert all(np.array_equal(made.weights[n], a) for n, a in read_checkpoint(tmp_path / "back").weights.items())


def test_a_checkpoint_without_labels_is_refused_for_detectors_that_give_one(run, tmp_path):
    checkpoint(tmp_path / "cat")
    done = run("calibrate", "digits-0-4", "--denoiser", "cat", "--threads", 1, status=1)
    assert "knows no labels; set condition = " in str(done.exception)
    assert not (tmp_path / "releases").exists()


def test_the_releases_own_denoiser_is_written(run, tmp_path):
    run("export-denoiser", "digits-0-4", "own")
    assert sorted(path.name for path in (tmp_path / "own").iterdir()) == [
        "README.md",
        "model_index.json",
        "scheduler",
        "unet",
    ]
    labels = json.loads((tmp_path / "own" / "unet" / "config.json").read_text())["labels"]
    assert labels == ["0", "1", "2", "3", "4"]
    assert "own is not empty" in str(run("export-denoiser", "digits-0-4", "own", status=1).exception)


@pytest.mark.parametrize(
    ("scheduler", "schedule"),
    [
        (DDPMScheduler(num_train_timesteps=400), {"steps": 400, "kind": "linear"}),
        (DDPMScheduler(beta_schedule="squaredcos_cap_v2"), {"steps": 1000, "kind": "cosine"}),
        (DDPMScheduler(beta_schedule="sigmoid"), {"steps": 1000, "kind": "cosine"}),  # the release's: it has no name
    ],
)
def test_a_release_takes_the_noise_levels_of_its_checkpoint_where_they_have_a_name(tmp_path, scheduler, schedule):
    release = load_release(PRETRAINED_FOLDER)
    assert schedule_of(release) == {"steps": 1000, "kind": "cosine"}
    made = with_denoiser(release, checkpoint(tmp_path, scheduler, num_class_embeds=6))
    assert schedule_of(made) == schedule
    settings = from_mapping(json.loads(json.dumps(made.card["settings"])))
    assert settings.denoiser.steps == 0
    denoiser = build(settings.networks, made.weights).denoiser
    assert torch.equal(denoiser.levels, torch.arange(schedule["steps"])) == (
        scheduler.config.beta_schedule != "sigmoid"
    )


def test_a_release_with_another_denoiser_has_no_thresholds_before_it_is_calibrated(tmp_path):
    from fedlmd.inference import Predictor  # noqa: PLC0415

    made = with_denoiser(load_release(PRETRAINED_FOLDER), checkpoint(tmp_path, num_class_embeds=6))
    with pytest.raises(ReleaseError, match="is incomplete: 'calibration' is missing"):
        Predictor(load_release(save_release(tmp_path / "releases", made.card, made.weights)))


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="takes a side of 32; the run's inputs have 28"):
        with_denoiser(load_release(PRETRAINED_FOLDER), checkpoint(tmp_path, sample_size=32))
