"""The package's U-Net as a model of diffusers. A folder for diffusers has this file with all that it imports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DOutput

from fedlmd.models.denoiser import DenoiserConfig, UNet


class FedLMDUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Predicts the velocity v of noisy images (B, C, H, W) in [-1, 1].

    Args:
        sample_size: height and width of the images, in pixels.
        in_channels: their channels.
        labels: names of the labels, in the order of their indices.
        shape: the fields of ``DenoiserConfig``.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: int,  # noqa: ARG002 - the decorator keeps it in ``config``, where pipelines read it
        in_channels: int,  # noqa: ARG002
        labels: Sequence[str],  # noqa: ARG002
        shape: Mapping[str, Any],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in shape.items()
        }
        self.unet = UNet(DenoiserConfig(**fields))

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        class_labels: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet2DOutput | tuple[torch.Tensor]:
        """Predict v.

        Args:
            sample: noisy images.
            timestep: their noise level, one for all or one for each.
            class_labels: index of each image's label; the number of labels means "no label", and so does None.
            return_dict: whether the velocities are wrapped.
        """
        t = torch.as_tensor(timestep, device=sample.device).reshape(-1).expand(len(sample))
        if class_labels is None:
            class_labels = torch.full((len(sample),), self.unet.config.classes, device=sample.device)
        v = self.unet(sample, t, class_labels)
        return UNet2DOutput(sample=v) if return_dict else (v,)
