"""Diffusion models: the schedule, the reverse steps, inpainting. Knows no network and no detector."""

from fedlmd.diffusion.inpainting import InpaintingConfig, inpaint
from fedlmd.diffusion.mixture import Mixture
from fedlmd.diffusion.samplers import Denoiser, Noise, reverse_step, timesteps
from fedlmd.diffusion.schedule import Schedule, ScheduleConfig

__all__ = [
    "Denoiser",
    "InpaintingConfig",
    "Mixture",
    "Noise",
    "Schedule",
    "ScheduleConfig",
    "inpaint",
    "reverse_step",
    "timesteps",
]
