"""Files of encoders whose maps are known, and a folder to put them in."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn


class Means(nn.Module):
    """Two maps: means of 2 x 2 pixels with a fourth channel that holds twice the red, and means of 4 x 4 pixels."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        fine = F.avg_pool2d(images, 2)
        return [torch.cat([fine, 2 * fine[:, :1]], dim=1), F.avg_pool2d(images, 4)]


class Pooled(nn.Module):
    """One vector an image, as classifiers have before their last layer."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


def scripted(module, path):
    """Write a TorchScript file, which torch deprecates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), str(path))


def means(images):
    """What ``Means`` makes of images, both maps at the resolution of the finer."""
    fine, coarse = Means()(images)
    return torch.cat([fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)


@pytest.fixture
def images():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of encoders with ``means.pt``, named by the environment."""
    folder = tmp_path / "encoders"
    folder.mkdir()
    scripted(Means(), folder / "means.pt")
    monkeypatch.setenv("FEDLMD_ENCODERS", str(folder))
    return folder
