"""A folder of diffusers, read as a denoiser."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor

from fedlmd.models.interchange.network import TRAINED_WITH, alphas_cumprod, ddpm, diffusers

UNET, SCHEDULER, WEIGHTS = "config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A denoiser that was trained with diffusers.

    Args:
        options: of ``DiffusersDenoiser``, without the run's noise levels.
        weights: float32 arrays by their names in a release, ``denoiser.unet.…``.
    """

    options: dict[str, Any]
    weights: dict[str, np.ndarray]

    @property
    def alphas_cumprod(self) -> Float[Tensor, " T"]:
        """The abar of the noise levels that it was trained on, float64."""
        return alphas_cumprod(self.options["scheduler"])

    @property
    def conditional(self) -> bool:
        """Whether it knows labels."""
        return self.options["unet"].get("num_class_embeds") is not None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a ``UNet2DModel`` with its scheduler, as ``save_pretrained`` of a pipeline or of both writes them.

    The network is in ``unet/`` or in the folder itself; the scheduler is in ``scheduler/``, beside the network's folder
    or in the folder itself. No code of the folder is run, and nothing is unpickled.

    Raises:
        ValueError: when one of the two is missing, of another kind or damaged, or there are no safetensors.
    """
    network = folder / "unet" if (folder / "unet").is_dir() else folder
    unet, scheduler = read_unet(network), read_scheduler(folder, network)
    index = network / f"{WEIGHTS}.index.json"  # of weights in several files
    if not (network / WEIGHTS).is_file() and not index.is_file():
        raise ValueError(f"{network} has no {WEIGHTS}; save the network with diffusers' safe_serialization=True")
    try:
        model, loaded = diffusers().UNet2DModel.from_pretrained(
            network, use_safetensors=True, low_cpu_mem_usage=False, local_files_only=True, output_loading_info=True
        )
    except (KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ValueError(f"{network} cannot be loaded by diffusers: {' '.join(str(error).split())[:300]}") from None
    # Weights that are missing would be random ones.
    wrong = {kind: names for kind, names in loaded.items() if names}
    if wrong:
        raise ValueError(f"the weights in {network} do not fit its {UNET}: {str(wrong)[:300]}")
    weights = {f"denoiser.unet.{name}": value.float().numpy() for name, value in model.state_dict().items()}
    return Checkpoint({"unet": unet, "scheduler": scheduler}, weights)


def read_unet(network: Path) -> dict[str, Any]:
    """The arguments of a ``UNet2DModel``. Raises ValueError where the folder has another network or unknown ones."""
    config = read_json(network / UNET)
    if config.get("_class_name") != "UNet2DModel":
        raise ValueError(f"{network / UNET} describes a {config.get('_class_name')}; only a UNet2DModel can be taken")
    unet = without_remarks(config)
    unknown = unet.keys() - inspect.signature(diffusers().UNet2DModel.__init__).parameters.keys()
    if unknown:
        raise ValueError(
            f"{network / UNET} has {', '.join(sorted(unknown))}, which the diffusers installed here does not know"
        )
    return unet


def read_scheduler(folder: Path, network: Path) -> dict[str, Any]:
    """What a network was trained with, the keys ``TRAINED_WITH``.

    Raises:
        ValueError: when the folder has no scheduler, or one without the variances of a discrete diffusion.
    """
    places = [folder / "scheduler", network.parent / "scheduler", folder]
    path = next((place / SCHEDULER for place in places if (place / SCHEDULER).is_file()), None)
    if path is None:
        raise ValueError(
            f"{folder} has no scheduler, which says the noise levels and what the network predicts; "
            "save the one that it was trained with there, by its save_pretrained"
        )
    config = read_json(path)
    kinds = diffusers().schedulers.KarrasDiffusionSchedulers.__members__
    if config.get("_class_name") not in kinds or not config.get("beta_schedule", config.get("trained_betas")):
        raise ValueError(
            f"{path} describes a {config.get('_class_name')} without the betas of a discrete diffusion; "
            "save the DDPMScheduler that the network was trained with there"
        )
    # What an old file leaves out, diffusers has a default for.
    full = ddpm({key: config[key] for key in TRAINED_WITH if key in config}).config
    return {key: full[key] for key in TRAINED_WITH}


def read_json(path: Path) -> dict[str, Any]:
    """A file that holds a JSON object. Raises ValueError where it is missing or holds none."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}; give a folder that diffusers saved") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; give a folder that diffusers saved")
    return content


def without_remarks(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration of diffusers without the keys that begin with "_", such as its version."""
    return {key: value for key, value in config.items() if not key.startswith("_")}
