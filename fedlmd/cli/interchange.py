"""Denoisers from diffusers and for diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from fedlmd.cli.options import ReleaseFolder, open_release

if TYPE_CHECKING:
    from torch import Tensor

    from fedlmd.diffusion import ScheduleConfig
    from fedlmd.release import Release
    from fedlmd.settings import Settings

NETWORK = "diffusers"
"""Its name in ``fedlmd.models.DENOISERS``."""

OF_THE_DETECTOR = ("calibration", "metrics", "self_test")
"""Sections of a card that another denoiser makes wrong."""


def export_denoiser(
    release: ReleaseFolder,
    folder: Annotated[Path, typer.Argument(help="Folder that gets the denoiser; it must not be there yet.")],
) -> None:
    """Write a release's denoiser as a folder that diffusers loads, with a README.md that says how."""
    from fedlmd.cli.show import console, plain
    from fedlmd.models import build
    from fedlmd.models.interchange import write_folder
    from fedlmd.settings import from_mapping

    opened = open_release(release)
    settings = from_mapping(opened.card["settings"])
    denoiser = build(settings.networks, opened.weights).denoiser.cpu()
    noise = settings.noise
    write_folder(folder, denoiser, noise.alphas_cumprod, settings.labels, noise.limit)
    console().print(f"denoiser {plain(folder)}: {plain(folder / 'README.md')} says how diffusers loads it")


def with_denoiser(release: Release, folder: Path) -> Release:
    """A release with a checkpoint of diffusers as its denoiser. It has no thresholds yet, so calibrate it.

    Its noise levels become those that the checkpoint was trained on, where the settings have a name for them;
    otherwise they stay, and the checkpoint's nearest ones are taken, see ``DiffusersDenoiser``.

    Args:
        release: with the classifier and the labels; a checkpoint with labels has them in the same order.
        folder: of the checkpoint, see ``read_checkpoint``.

    Raises:
        ValueError: when the folder cannot be read, or its network does not fit the release.
    """
    from dataclasses import replace

    from fedlmd.models import build
    from fedlmd.models.interchange import read_checkpoint
    from fedlmd.release import Release
    from fedlmd.settings import from_mapping, to_mapping

    checkpoint = read_checkpoint(folder)
    settings = from_mapping(release.card["settings"])
    settings = replace(
        settings,
        models=replace(settings.models, denoiser_network=NETWORK, denoiser_options=checkpoint.options),
        schedule=named(checkpoint.alphas_cumprod) or settings.schedule,
        denoiser=replace(settings.denoiser, steps=0),  # it is trained already
    )
    others = {name: array for name, array in release.weights.items() if not name.startswith("denoiser.")}
    weights = {**others, **checkpoint.weights}
    build(settings.networks, weights)  # raises where it does not fit
    kept = {name: section for name, section in release.card.items() if name not in OF_THE_DETECTOR}
    card = {**kept, "settings": to_mapping(settings), "denoiser_from": f"diffusers: {folder.resolve().name}"}
    return Release(release.id, card, weights)


def named(alphas_cumprod: Tensor) -> ScheduleConfig | None:
    """The schedule of the settings that has these abar (T,), up to the rounding of single precision; or None."""
    import torch

    from fedlmd.diffusion import Schedule, ScheduleConfig
    from fedlmd.diffusion.schedule import ScheduleKind

    for kind in get_args(ScheduleKind):
        config = ScheduleConfig(len(alphas_cumprod), kind)
        if torch.allclose(Schedule(config).alphas_cumprod, alphas_cumprod, rtol=1e-3, atol=0):
            return config
    return None


def refuse_labels(settings: Settings) -> None:
    """Refuse detectors that give the denoiser a label where it knows none.

    Raises:
        ValueError: with what to set.
    """
    options = settings.models.denoiser_options
    if settings.models.denoiser_network != NETWORK or options["unet"].get("num_class_embeds") is not None:
        return
    conditions = {"lmd": settings.detector.lmd.condition, "one_step": settings.detector.one_step.condition}
    wrong = [f"[detector.{name}]" for name, condition in conditions.items() if condition != "none"]
    if wrong:
        raise ValueError(
            f'this denoiser of diffusers knows no labels; set condition = "none" in {" and ".join(wrong)} '
            "of a file that --settings names"
        )
