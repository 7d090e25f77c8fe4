"""An encoder that takes no time, and photographs for it: for tests of what stands behind encoders."""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

SETTINGS = {
    "labels": ["red", "green"],
    "image_size": 64,
    "encoder": {"name": "torchscript", "weights": "cells.pt", "channels": 5},
    "models": {"classifier": [16], "denoiser": [8, 8]},
    "classifier": {"steps": 150, "batch_size": 16, "low_precision": False, "ema": 0.8, "warmup": 3},
    "denoiser": {"steps": 4, "batch_size": 16, "low_precision": False},
    "detector": {"lmd": {"reconstructions": 2, "cells": 2, "inpainting": {"steps": 3}}},
    "calibration": {"alpha": 0.2, "images": 40},
    "federation": {"rounds": 2, "min_workers": 2},
}
"""A run on the latents of ``cells.pt``."""


class Cells(nn.Module):
    """Means over 16 x 16 pixels and their squares and products: 9 features."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = F.avg_pool2d(images, 16)
        return torch.cat([means, means * means, means * means.roll(1, 1)], dim=1)


def write_encoder(folder):
    """Write the TorchScript file ``cells.pt``; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(Cells().eval()), str(folder / "cells.pt"))
    return folder


def paint(folder, count=40, labels=("red", "green", "blue"), seed=0):
    """Colour photographs of one noisy colour for each label; returns the folder."""
    generator = np.random.default_rng(seed)
    for number, label in enumerate(("red", "green", "blue")):
        for index in range(count if label in labels else 0):
            pixels = generator.integers(0, 120, (70, 70, 3))
            pixels[..., number] += 100
            (folder / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{index}.png")
    return folder
