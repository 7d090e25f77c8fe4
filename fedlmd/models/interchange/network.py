"""A U-Net of diffusers as the denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fedlmd.models.denoiser import DenoiserConfig, DenoiserNetwork

PREDICTIONS = ("epsilon", "sample", "v_prediction")

TRAINED_WITH = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
"""What a ``scheduler_config.json`` says of the training; its other keys are a sampler's."""

FARTHEST = 0.01
"""Largest angle in radians between a noise level of the run and the nearest one of the network.

The noisy images of both, of the same image and noise of unit variance, then differ by 1 % of their size at most. At the
lowest levels, where there is less noise than that, the network may still expect twice as much or half of it.
"""


@final
class DiffusersDenoiser(DenoiserNetwork):
    """A ``UNet2DModel`` of diffusers, whatever it predicts, as a network that predicts v.

    The options are

    - ``unet``: the network's ``config.json``;
    - ``scheduler``: the keys ``TRAINED_WITH`` of its ``scheduler_config.json``;
    - ``alphas_cumprod``: abar_t of the run's noise levels, which the run's settings add.

    Its noise levels are those of the run where both have the same abar. Where they differ, the network is evaluated at
    its own level that is nearest: two variance-preserving processes make the same noisy images at the same abar. The
    distance is the angle between (sqrt(abar), sqrt(1 - abar)) of both, which is ``FARTHEST`` at most.

    A network without labels (``num_class_embeds`` is null) takes "no label" alone. One with labels has an embedding for
    each in the order of the run's labels, and a last one for "no label".

    Raises:
        ValueError: when diffusers is not installed, or the options do not describe such a network, or it has another
            shape, other labels or other noise levels than the run.
    """

    local_layers: ClassVar[tuple[str, ...]] = ("unet.up_blocks.", "unet.conv_norm_out.", "unet.conv_out.")

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__(config)
        missing = {"unet", "scheduler", "alphas_cumprod"} - config.options.keys()
        if missing:
            raise ValueError(f"the options of a diffusers denoiser lack {', '.join(sorted(missing))}")
        unet, scheduler = config.options["unet"], config.options["scheduler"]
        check_unet(unet, config)
        check_time(unet, scheduler)
        abar = torch.tensor(config.options["alphas_cumprod"], dtype=torch.float64)
        levels = nearest(angles(abar), angles(alphas_cumprod(scheduler)))
        self.prediction: str = scheduler["prediction_type"]
        self.conditional = unet.get("num_class_embeds") is not None
        try:
            self.unet = diffusers().UNet2DModel(**unet)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"diffusers cannot build this UNet2DModel: {error}") from None
        self.levels: Int[Tensor, " T"]
        self.signals: Float[Tensor, "2 T"]
        # Computed from the options, so that no weights of lower precision replace them.
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("signals", torch.stack([abar.sqrt(), (1 - abar).sqrt()]).float(), persistent=False)

    def forward(
        self, x_t: Float[Tensor, "b c h w"], t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Predict v.

        Raises:
            ValueError: when the network knows no labels and is given one.
        """
        predicted: Tensor = self.unet(x_t, self.levels[t], self.class_labels(t, label)).sample
        alpha: Tensor
        sigma: Tensor
        alpha, sigma = self.signals[:, t].reshape(2, -1, 1, 1, 1)
        if self.prediction == "epsilon":
            return (predicted - sigma * x_t) / alpha
        return (alpha * x_t - predicted) / sigma if self.prediction == "sample" else predicted

    def class_labels(self, t: Int[Tensor, " b"], label: Int[Tensor, " b"] | None) -> Int[Tensor, " b"] | None:
        """What the network takes as labels."""
        if self.conditional:
            return torch.full_like(t, self.config.classes) if label is None else label
        if label is not None and bool((label != self.config.classes).any()):
            raise ValueError(
                'this diffusers denoiser knows no labels; set condition = "none" in [detector.lmd] and '
                "[detector.one_step], and label_dropout = 1 in [denoiser] where it is trained"
            )
        return None


def diffusers() -> ModuleType:
    """The package. Raises ValueError that says what to install where it is missing."""
    try:
        import diffusers  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise ValueError("a denoiser of diffusers needs the extra: pip install 'fedlmd[diffusers]'") from None
    return diffusers


def check_unet(unet: Mapping[str, Any], config: DenoiserConfig) -> None:
    """Refuse a ``UNet2DModel`` that has another shape or other labels than the run, or denoises in another way.

    Raises:
        ValueError: with what it has, and what the run needs.
    """
    size, channels, classes = config.image_size, config.channels, config.classes
    levels = unet.get("block_out_channels", (0, 0, 0, 0))
    if unet.get("sample_size") not in (None, size, [size, size], (size, size)):
        raise ValueError(f"the diffusers network takes a side of {unet['sample_size']}; the run's inputs have {size}")
    if size % (multiple := 2 ** (len(levels) - 1)):
        raise ValueError(f"image_size is {size}; the diffusers network takes a multiple of {multiple}")
    taken, made = unet.get("in_channels", 3), unet.get("out_channels", 3)
    if (taken, made) != (channels, channels):
        raise ValueError(
            f"the diffusers network takes {taken} channels and makes {made}; the run's inputs have {channels}"
        )
    embeddings = unet.get("num_class_embeds")
    if unet.get("class_embed_type") is not None or embeddings not in (None, classes + 1):
        raise ValueError(
            f"the diffusers network has class_embed_type {unet.get('class_embed_type')!r} and num_class_embeds "
            f"{embeddings}; for {classes} labels it needs null and {classes + 1}, the last for no label; or null twice"
        )


def check_time(unet: Mapping[str, Any], scheduler: Mapping[str, Any]) -> None:
    """Refuse a ``UNet2DModel`` that takes other noise levels than the indices of its scheduler's.

    Raises:
        ValueError: with what it has, and what is needed.
    """
    if unet.get("time_embedding_type", "positional") == "fourier":
        raise ValueError(
            "the diffusers network has a fourier time embedding, which belongs to noise that grows without bound; "
            "take a network with a positional or a learned one"
        )
    learned, steps = unet.get("time_embedding_type") == "learned", scheduler.get("num_train_timesteps")
    if learned and unet.get("num_train_timesteps") != steps:
        raise ValueError(
            f"the diffusers network has learned {unet.get('num_train_timesteps')} noise levels; "
            f"its scheduler has {steps}"
        )


def alphas_cumprod(scheduler: Mapping[str, Any]) -> Float[Tensor, " S"]:
    """The abar of the levels that a network was trained on, from the keys ``TRAINED_WITH``.

    Raises:
        ValueError: when they describe no training that diffusers' DDPM knows.
    """
    if scheduler.get("prediction_type") not in PREDICTIONS:
        raise ValueError(
            f"prediction_type is {scheduler.get('prediction_type')!r}; it is one of {', '.join(PREDICTIONS)}"
        )
    betas: Tensor = ddpm(scheduler).betas.double()
    if len(betas) != scheduler.get("num_train_timesteps"):
        raise ValueError(
            f"num_train_timesteps is {scheduler.get('num_train_timesteps')}; trained_betas has {len(betas)}"
        )
    return torch.cumprod(1 - betas, dim=0)


def ddpm(scheduler: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a class of the extra
    """The ``DDPMScheduler`` of these arguments. Raises ValueError where diffusers cannot build it."""
    try:
        return diffusers().DDPMScheduler(**scheduler)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(f"diffusers cannot build the scheduler of the network: {error}") from None


def angles(abar: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Angle of each noise level, rising from 0 (the image) to pi / 2 (noise): noise over signal is its tangent."""
    return torch.atan2((1 - abar).sqrt(), abar.sqrt())


def nearest(wanted: Float[Tensor, " n"], given: Float[Tensor, " m"]) -> Int[Tensor, " n"]:
    """Index of the nearest of the given angles, which rise, for each wanted one.

    Raises:
        ValueError: when one is farther than ``FARTHEST``.
    """
    index = torch.searchsorted((given[1:] + given[:-1]) / 2, wanted)
    farthest = float((given[index] - wanted).abs().max())
    if not farthest <= FARTHEST:
        raise ValueError(
            f"the {len(given)} noise levels of the diffusers network are too far from the run's: {farthest:.3f} in "
            f"angle where {FARTHEST} is allowed; set [schedule] to what the network was trained with"
        )
    return index
