"""A denoiser, written as a folder that diffusers loads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fedlmd.models.denoiser import UNet
from fedlmd.models.interchange.code import code
from fedlmd.models.interchange.network import DiffusersDenoiser, diffusers

CODE = "fedlmd_unet"
"""Name of the file with the model's code, without ".py"; diffusers keeps those of all folders in one place."""

OWN = f"""\
The network predicts the velocity v. Its code is `unet/{CODE}.py`; `trust_remote_code=True` lets diffusers run it. That
the pipeline expects a `UNet2DModel` is a warning only."""

LOADED = """\
# A denoiser of fedlmd

{what} have a side of {size}, {channels} channel(s) and values in [-{limit}, {limit}]. {network}

```python
import torch
from diffusers import DiffusionPipeline

folder = "."  # that of this file
pipe = DiffusionPipeline.from_pretrained(folder{trusted})
```
"""

OF_ANY_LABEL = """\
Drawn of any label:

```python
images = pipe(batch_size=4, num_inference_steps=50{clipped}).images
```
"""

OF_ONE_LABEL = """\
Drawn of one label, here of number 0; the number {classes} means "no label":

```python
x, label = torch.randn(4, {channels}, {size}, {size}), torch.zeros(4, dtype=torch.long)
pipe.scheduler.set_timesteps(50)
with torch.inference_mode():
    for t in pipe.scheduler.timesteps:
        predicted = pipe.unet(x, t, label).sample
        x = pipe.scheduler.step(predicted, t, x{clipped}).prev_sample
```

{labels}
"""


def write_folder(
    folder: Path,
    denoiser: nn.Module,
    alphas_cumprod: Float[Tensor, " T"],
    labels: Sequence[str],
    limit: float = 1.0,
) -> None:
    """Write a denoiser with a scheduler, so that ``DiffusionPipeline.from_pretrained`` loads both.

    A ``UNet`` is written with its code, which needs torch and diffusers alone, and its noise levels. A
    ``DiffusersDenoiser`` is written as the ``UNet2DModel`` that it is, with the noise levels that it was trained on.

    Args:
        folder: that gets the files; empty or not yet there.
        denoiser: a network of one of these two classes.
        alphas_cumprod: abar_t of the run's noise levels, float64.
        labels: their names, in the order of their indices.
        limit: clean images lie in [-limit, limit]; with another one than 1 they are an encoder's latents.

    Raises:
        ValueError: when the folder has files, the denoiser is of another class, or diffusers is not installed.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a folder that is not there yet")
    own = isinstance(denoiser, UNet)
    if isinstance(denoiser, UNet):
        model = standalone(denoiser, labels)
        scheduler = ddim(alphas_cumprod, limit)
    elif isinstance(denoiser, DiffusersDenoiser):
        model = denoiser.unet
        scheduler = diffusers().DDPMScheduler(**denoiser.config.options["scheduler"])
    else:
        raise ValueError(f"a denoiser of class {type(denoiser).__name__} has no form for diffusers; a single UNet has")
    model.save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    if own:
        (folder / "unet" / f"{CODE}.py").write_text(code(), encoding="utf-8")
    name = type(scheduler).__name__
    index = {
        "_class_name": name.replace("Scheduler", "Pipeline"),
        "_diffusers_version": diffusers().__version__,
        "unet": [CODE if own else "diffusers", type(model).__name__],
        "scheduler": ["diffusers", name],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(readme(denoiser, labels, limit), encoding="utf-8")


def standalone(denoiser: UNet, labels: Sequence[str]) -> Any:  # noqa: ANN401 - its class needs the extra
    """A U-Net as a model of diffusers, with its weights."""
    diffusers()  # a clear error where it is missing
    config = denoiser.config
    make = import_module("fedlmd.models.interchange.standalone").FedLMDUNet
    # Through JSON, as a reader of the folder gets it.
    model = make(config.image_size, config.channels, list(labels), json.loads(json.dumps(asdict(config))))
    model.unet.load_state_dict(denoiser.state_dict())
    return model


def ddim(alphas_cumprod: Float[Tensor, " T"], limit: float) -> Any:  # noqa: ANN401 - a class of the extra
    """The scheduler of a run's noise levels, whose steps are those of ``fedlmd.diffusion.reverse_step``."""
    before = torch.cat([torch.ones(1, dtype=alphas_cumprod.dtype), alphas_cumprod[:-1]])
    return diffusers().DDIMScheduler(
        num_train_timesteps=len(alphas_cumprod),
        trained_betas=(1 - alphas_cumprod / before).tolist(),
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample_range=limit,
    )


def readme(denoiser: UNet | DiffusersDenoiser, labels: Sequence[str], limit: float) -> str:
    """How a folder is used; the code in it runs as it is."""
    config, own = denoiser.config, isinstance(denoiser, UNet)
    labelled, pixels = own or denoiser.conditional, limit == 1.0
    # A pipeline makes pixels of what it draws, which latents are not.
    piped = pixels and (own or not denoiser.conditional)
    values = {
        "what": "Images" if pixels else "Latents of the encoder that the release names",
        "limit": f"{limit:g}",
        "size": config.image_size,
        "channels": config.channels,
        "classes": config.classes,
        "labels": "\n".join(f"{index}. {name}" for index, name in enumerate(labels)),
        "trusted": ", trust_remote_code=True" if own else "",
        # The package's own sampler takes the noise from the clipped image, too.
        "clipped": ", use_clipped_model_output=True" if own else "",
        "network": OWN if own else "The network is a `UNet2DModel`.",
    }
    parts = [LOADED, *([OF_ANY_LABEL] if piped else []), *([OF_ONE_LABEL] if labelled else [])]
    return "\n".join(parts).format(**values)
