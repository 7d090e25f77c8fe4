"""Denoisers from diffusers and for diffusers, by value against diffusers itself."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, EDMEulerScheduler, UNet2DConditionModel, UNet2DModel
from safetensors.torch import load_file, save_file
from torch import nn

from fedlmd.diffusion import Schedule, ScheduleConfig, reverse_step, timesteps
from fedlmd.models import DenoiserConfig, UNet
from fedlmd.models.interchange import DiffusersDenoiser, read_checkpoint, write_folder

SIZE, CLASSES = 16, 3
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def unet(**changes):
    torch.manual_seed(0)
    values = {
        "sample_size": SIZE,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 4,
    }
    return UNet2DModel(**{**values, **changes}).eval()


def saved(folder, network=None, scheduler=None):
    """A pipeline's folder of diffusers."""
    DDPMPipeline(network or unet(), scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


def denoiser(checkpoint, schedule=None, **shape):
    """A checkpoint as the denoiser of a run."""
    levels = (schedule or Schedule(ScheduleConfig(kind="linear"))).alphas_cumprod.tolist()
    options = {**json.loads(json.dumps(checkpoint.options)), "alphas_cumprod": levels}
    config = DenoiserConfig(
        **{"image_size": SIZE, "classes": CLASSES, "network": "diffusers", "options": options, **shape}
    )
    network = DiffusersDenoiser(config)
    network.load_state_dict(
        {name.removeprefix("denoiser."): torch.from_numpy(value) for name, value in checkpoint.weights.items()}
    )
    return network.eval()


def batch(count=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, SIZE, SIZE, generator=generator), torch.tensor([0, 300, 700, 999])[:count]


def own(classes=CLASSES):
    """A U-Net of the package, every layer of which matters."""
    torch.manual_seed(0)
    network = UNet(DenoiserConfig(image_size=SIZE, classes=classes, widths=(8, 16))).eval()
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return network


# From diffusers.


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@torch.inference_mode()
def test_the_image_that_a_checkpoint_implies_is_that_of_its_own_scheduler(tmp_path, prediction):
    network, scheduler = unet(), DDPMScheduler(prediction_type=prediction, clip_sample=False)
    ours = denoiser(read_checkpoint(saved(tmp_path, network, scheduler)))
    schedule, (x_t, t) = Schedule(ScheduleConfig(kind="linear")), batch()
    implied = schedule.denoised(x_t, ours(x_t, t), t)
    for n in range(len(t)):
        one = x_t[n : n + 1]
        expected = scheduler.step(network(one, t[n]).sample, int(t[n]), one).pred_original_sample
        torch.testing.assert_close(implied[n : n + 1], expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_network_with_labels_is_given_them_and_a_last_one_for_no_label(tmp_path):
    network = unet(num_class_embeds=CLASSES + 1)
    ours = denoiser(read_checkpoint(saved(tmp_path, network, DDPMScheduler(prediction_type="v_prediction"))))
    (x_t, t), label = batch(), torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(ours(x_t, t, label), network(x_t, t, label).sample)
    torch.testing.assert_close(ours(x_t, t), network(x_t, t, torch.full((4,), CLASSES)).sample)
    assert not torch.allclose(ours(x_t, t, label)[:3], ours(x_t, t)[:3])


@torch.inference_mode()
def test_a_network_without_labels_refuses_one_but_takes_no_label(tmp_path):
    ours, (x_t, t) = denoiser(read_checkpoint(saved(tmp_path))), batch()
    assert torch.equal(ours(x_t, t), ours(x_t, t, torch.full((4,), CLASSES)))
    with pytest.raises(ValueError, match=r'knows no labels; set condition = "none" in \[detector.lmd\]'):
        ours(x_t, t, torch.tensor([CLASSES, CLASSES, 0, CLASSES]))


@pytest.mark.parametrize(
    ("kind", "scheduler"),
    [
        ("linear", DDPMScheduler()),
        ("linear", DDPMScheduler(num_train_timesteps=50)),
        ("cosine", DDPMScheduler(beta_schedule="squaredcos_cap_v2")),
        ("linear", DDPMScheduler(trained_betas=np.linspace(1e-4, 0.02, 1000))),
    ],
)
def test_the_same_noise_levels_keep_their_numbers(tmp_path, kind, scheduler):
    steps = scheduler.config.num_train_timesteps
    ours = denoiser(read_checkpoint(saved(tmp_path, scheduler=scheduler)), Schedule(ScheduleConfig(steps, kind)))
    assert torch.equal(ours.levels, torch.arange(steps))


@torch.inference_mode()
def test_other_noise_levels_are_matched_by_their_share_of_noise(tmp_path):
    network, scheduler = unet(), DDPMScheduler(beta_schedule="sigmoid", prediction_type="v_prediction")
    schedule = Schedule(ScheduleConfig(steps=200, kind="cosine"))
    ours, (x_t, t) = denoiser(read_checkpoint(saved(tmp_path, network, scheduler)), schedule), batch(2)
    for level in (20, 100, 160):
        differences = (scheduler.alphas_cumprod.sqrt().acos() - schedule.alphas_cumprod[level].sqrt().acos()).abs()
        assert int(ours.levels[level]) == int(differences.argmin())
    t = torch.tensor([20, 160])
    torch.testing.assert_close(ours(x_t, t), network(x_t, ours.levels[t]).sample)


def test_noise_levels_that_are_too_far_are_refused(tmp_path):
    checkpoint = read_checkpoint(saved(tmp_path, scheduler=DDPMScheduler(beta_end=0.002)))
    with pytest.raises(ValueError, match=r"too far from the run's: 0\.[0-9]+ in angle where 0\.01 is allowed"):
        denoiser(checkpoint)


def test_all_weights_are_in_the_state_and_named_as_in_a_release(tmp_path):
    network = unet()
    checkpoint = read_checkpoint(saved(tmp_path, network))
    ours = denoiser(checkpoint)
    assert {f"denoiser.{name}" for name in ours.state_dict()} == checkpoint.weights.keys()
    assert {type(value) for value in json.loads(json.dumps(checkpoint.options)).values()} == {dict}
    for name, value in network.state_dict().items():
        assert np.array_equal(checkpoint.weights[f"denoiser.unet.{name}"], value.numpy())
    assert all(any(name.startswith(layer) for name in ours.state_dict()) for layer in ours.local_layers)


@pytest.mark.parametrize("layout", ["pipeline", "network of a pipeline", "one folder", "without kind of prediction"])
def test_a_checkpoint_is_read_wherever_diffusers_puts_its_scheduler(tmp_path, layout):
    folder = saved(tmp_path / "pipeline")
    if layout == "network of a pipeline":
        folder /= "unet"
    elif layout == "one folder":
        folder = tmp_path / "one"
        unet().save_pretrained(folder)
        DDPMScheduler().save_pretrained(folder)
    elif layout == "without kind of prediction":  # as files of early versions
        edit(folder / "scheduler" / "scheduler_config.json", prediction_type=None)
    checkpoint = read_checkpoint(folder)
    assert checkpoint.options["scheduler"]["prediction_type"] == "epsilon"
    assert not checkpoint.conditional
    torch.testing.assert_close(checkpoint.alphas_cumprod.float(), DDPMScheduler().alphas_cumprod)


def old_names(folder):
    """The names of attention's weights in files of early versions."""
    path, names = folder / WEIGHTS, {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    for new, old in names.items():
        weights = {name.replace(new, old): value for name, value in weights.items()}
    assert weights.keys() != load_file(path).keys()
    save_file(weights, path)


def several_files(folder):
    remove(folder, WEIGHTS)
    unet().save_pretrained(folder / "unet", max_shard_size="50KB")
    assert len(list(folder.glob("unet/*.safetensors"))) > 1


@pytest.mark.parametrize("change", [old_names, several_files])
def test_weights_in_the_other_forms_of_diffusers_are_read(tmp_path, change):
    change(saved(tmp_path))
    weights = read_checkpoint(tmp_path).weights
    for name, value in unet().state_dict().items():
        assert np.array_equal(weights[f"denoiser.unet.{name}"], value.numpy())


def edit(path, **changes):
    """Change keys of a JSON file; None removes one."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def remove(folder, name):
    (folder / name).unlink()


def without_a_weight(folder):
    path = folder / WEIGHTS
    weights = load_file(path)
    del weights["conv_in.bias"]
    save_file(weights, path)


def conditioned(folder):
    model = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
    )
    model.save_pretrained(folder / "unet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: remove(f, "unet/config.json"), "config.json cannot be read: No such file"),
        (lambda f: (f / "unet/config.json").write_text("{"), "config.json is no JSON file"),
        (lambda f: (f / "unet/config.json").write_text("[]"), "config.json holds no JSON object"),
        (conditioned, "describes a UNet2DConditionModel; only a UNet2DModel can be taken"),
        (lambda f: edit(f / "unet/config.json", from_the_future=1), "from_the_future, which the diffusers installed"),
        (lambda f: remove(f, "scheduler/scheduler_config.json"), "has no scheduler, which says the noise levels"),
        (lambda f: EDMEulerScheduler().save_pretrained(f / "scheduler"), "describes a EDMEulerScheduler without"),
        (lambda f: edit(f / "scheduler/scheduler_config.json", beta_schedule="x"), "cannot build the scheduler"),
        (lambda f: remove(f, WEIGHTS), "safe_serialization=True"),
        (lambda f: (f / WEIGHTS).write_bytes(b"x" * 99), "cannot be loaded"),
        (lambda f: edit(f / "unet/config.json", layers_per_block=2), "cannot be loaded by diffusers"),
        (without_a_weight, "do not fit its config.json: {'missing_keys': ['conv_in.bias']"),
        (lambda f: edit(f / "unet/config.json", block_out_channels=[8, 24]), "cannot be loaded by diffusers"),
    ],
)
def test_a_folder_that_cannot_be_taken_is_refused_with_the_reason(tmp_path, change, message):
    saved(tmp_path)
    change(tmp_path)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_checkpoint(tmp_path)


def test_pickled_weights_are_never_read(tmp_path):
    DDPMPipeline(unet(), DDPMScheduler()).save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ValueError, match=r"has no diffusion_pytorch_model\.safetensors"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        ({}, {"image_size": 28}, "takes a side of 16; the run's inputs have 28"),
        ({"sample_size": None, "block_out_channels": (8,) * 4}, {"image_size": 28}, "takes a multiple of 8"),
        ({}, {"channels": 3}, "takes 1 channels and makes 1; the run's inputs have 3"),
        ({"out_channels": 2}, {}, "takes 1 channels and makes 2"),
        ({"num_class_embeds": 3}, {}, "num_class_embeds 3; for 3 labels it needs null and 4"),
        ({"class_embed_type": "timestep"}, {}, "class_embed_type 'timestep'"),
        ({"time_embedding_type": "fourier"}, {}, "has a fourier time embedding"),
        ({"time_embedding_type": "learned", "num_train_timesteps": 9}, {}, "has learned 9 noise levels; its scheduler"),
        ({"down_block_types": ("No", "No")}, {}, "diffusers cannot build this UNet2DModel"),
        ({"block": 1}, {}, "diffusers cannot build this UNet2DModel"),
    ],
)
def test_a_network_that_does_not_fit_the_run_is_refused_with_the_reason(network, shape, message):
    base = dict(unet().config)
    config = {**{key: value for key, value in base.items() if not key.startswith("_")}, **network}
    options = {
        "unet": config,
        "scheduler": {"num_train_timesteps": 1000, "prediction_type": "epsilon"},
        "alphas_cumprod": Schedule(ScheduleConfig(kind="linear")).alphas_cumprod.tolist(),
    }
    with pytest.raises(ValueError, match=re.escape(message)):
        DiffusersDenoiser(DenoiserConfig(**{"image_size": SIZE, "classes": CLASSES, "options": options, **shape}))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"prediction_type": "flow"}, "prediction_type is 'flow'; it is one of epsilon, sample, v_prediction"),
        ({"num_train_timesteps": 9, "trained_betas": [0.1]}, "num_train_timesteps is 9; trained_betas has 1"),
        ({"beta": 1}, "diffusers cannot build the scheduler"),
    ],
)
def test_a_scheduler_that_makes_no_sense_is_refused(scheduler, message):
    options = {"unet": {**unet().config}, "scheduler": {"prediction_type": "epsilon", **scheduler}}
    with pytest.raises(ValueError, match=re.escape(message)):
        DiffusersDenoiser(DenoiserConfig(image_size=SIZE, options={**options, "alphas_cumprod": [0.9]}))


def test_missing_options_and_a_missing_package_are_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="lack alphas_cumprod, scheduler, unet"):
        DiffusersDenoiser(DenoiserConfig(image_size=SIZE))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"pip install 'fedlmd\[diffusers\]'"):
        write_folder(tmp_path / "new", own(), Schedule().alphas_cumprod, ["a", "b", "c"])


def test_a_checkpoint_can_be_trained_further(tmp_path):
    network = unet(num_class_embeds=CLASSES + 1)
    ours, (x_t, t) = denoiser(read_checkpoint(saved(tmp_path, network))), batch()
    ours(x_t, t, torch.tensor([0, 1, 2, 3])).square().sum().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


# For diffusers.

LOADED_ALONE = """
import json, re, sys
from pathlib import Path

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fedlmd", "jaxtyping"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocked())
import torch
torch.set_num_threads(1)
blocks = re.findall(r"```python\\n(.*?)```", Path("README.md").read_text(), flags=re.S)
exec("\\n".join(blocks).replace("50", "3"))
print(len(images), images[0].size, tuple(x.shape), pipe.unet.config.labels)

given = torch.load("given.pt", weights_only=True)
results = {}
with torch.inference_mode():
    results["v"] = pipe.unet(given["x"], given["t"], given["label"]).sample
    results["unlabelled"] = pipe.unet(given["x"], given["t"]).sample
    x, sampled = given["x"], pipe.scheduler
    sampled.set_timesteps(20)
    for t in sampled.timesteps:
        v = pipe.unet(x, t, given["label"]).sample
        x = sampled.step(v, t, x, eta=0.0, use_clipped_model_output=True).prev_sample
    results["sample"], results["timesteps"] = x, sampled.timesteps
torch.save(results, "results.pt")
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder, and what it gives in a process that cannot import this package."""
    folder = tmp_path_factory.mktemp("written") / "denoiser"
    write_folder(folder, own(), Schedule().alphas_cumprod, ["a {b}", "b", "c"])
    (x, t), label = batch(), torch.tensor([0, 1, 2, 3])
    torch.save({"x": x, "t": t, "label": label}, folder / "given.pt")
    variables = {**os.environ, "HF_HOME": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", LOADED_ALONE]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, torch.load(folder / "results.pt", weights_only=True)


def test_the_readme_of_a_folder_runs_without_this_package(written):
    assert written[0] == "4 (16, 16) (4, 1, 16, 16) ['a {b}', 'b', 'c']\n"


@torch.inference_mode()
def test_a_folder_denoises_as_the_network_does(written):
    network, (x, t), results = own(), batch(), written[1]
    torch.testing.assert_close(results["v"], network(x, t, torch.tensor([0, 1, 2, 3])), rtol=0, atol=1e-5)
    torch.testing.assert_close(results["unlabelled"], network(x, t), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_diffusers_draws_from_a_folder_what_the_packages_sampler_draws(written):
    network, schedule, (x, _) = own(), Schedule(), batch()
    levels = timesteps(schedule, 20)
    assert written[1]["timesteps"].tolist() == levels[:-1]
    for t, s in pairwise(levels):
        v = network(x, torch.full((4,), t), torch.tensor([0, 1, 2, 3]))
        x = reverse_step(schedule, x, v, t, s, eta=0.0, noise=torch.zeros_like(x))
    torch.testing.assert_close(written[1]["sample"], x, rtol=0, atol=1e-5)
    assert float(x.std()) > 0.05


@torch.inference_mode()
@pytest.mark.parametrize("classes", [None, CLASSES + 1])
def test_a_network_of_diffusers_is_written_as_it_was_read(tmp_path, classes):
    network, scheduler = unet(num_class_embeds=classes), DDPMScheduler(prediction_type="sample")
    checkpoint = read_checkpoint(saved(tmp_path / "read", network, scheduler))
    write_folder(tmp_path / "written", denoiser(checkpoint), torch.ones(1), ["a", "b", "c"])
    again = read_checkpoint(tmp_path / "written")
    assert again.options == checkpoint.options
    assert all(np.array_equal(again.weights[name], value) for name, value in checkpoint.weights.items())
    assert type(DDPMPipeline.from_pretrained(tmp_path / "written", low_cpu_mem_usage=False).unet) is UNet2DModel
    text = (tmp_path / "written" / "README.md").read_text()
    assert ("trust_remote_code" in text, "label = " in text, ".images" in text) == (False, bool(classes), not classes)


def test_the_noise_levels_of_a_folder_are_the_runs(tmp_path):
    schedule = Schedule(ScheduleConfig(steps=40))
    write_folder(tmp_path, own(), schedule.alphas_cumprod, ["a", "b", "c"])
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "scheduler")
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), schedule.alphas_cumprod, rtol=1e-4, atol=0)


def test_a_folder_of_latents_has_their_range_and_makes_no_pictures_of_them(tmp_path):
    write_folder(tmp_path, own(), Schedule().alphas_cumprod, ["a", "b", "c"], limit=4.5)
    assert DDIMScheduler.from_pretrained(tmp_path / "scheduler").config.clip_sample_range == 4.5
    text = (tmp_path / "README.md").read_text()
    assert "Latents of the encoder that the release names have a side of 16, 1 channel(s)" in text
    assert "in [-4.5, 4.5]" in text
    assert ".images" not in text


def test_a_folder_with_files_and_an_unknown_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a denoiser of class Identity has no form for diffusers"):
        write_folder(tmp_path, nn.Identity(), torch.ones(1), ["a"])
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not empty; give a folder that is not there yet"):
        write_folder(tmp_path, own(), torch.ones(1), ["a"])
