"""Heat by hand, its smoothing against a second library, and with the exact denoiser of a small data set."""

import math
from dataclasses import replace

import pytest
import torch
from skimage.filters import gaussian

from fedlmd.detection import LMD, PAPER, Reconstruction, explanation_config, heat, median_reconstruction, mse
from fedlmd.detection.heat_map import smoothed
from fedlmd.detection.lmd import FAST
from fedlmd.diffusion import Schedule, ScheduleConfig
from tests.diffusion.exact import SCHEDULE, Exact, digits


def test_heat_is_the_squared_distance_to_the_median_beyond_the_spread_by_hand():
    # Of four attempts the last kept the first pixel; all kept the second one. So small an image is not smoothed.
    image = torch.tensor([1.0, 0.5]).reshape(1, 1, 1, 2)
    copies = torch.tensor([[0.0, 0.5], [0.2, 0.5], [0.4, 0.5], [1.0, 0.5]]).reshape(4, 1, 1, 1, 2)
    keep = torch.tensor([[0, 1], [0, 1], [0, 1], [1, 1]], dtype=torch.bool).reshape(4, 1, 1, 2)
    redrawn = Reconstruction(keep, copies)
    torch.testing.assert_close(median_reconstruction(image, redrawn), torch.tensor([0.2, 0.5]).reshape(1, 1, 1, 2))
    expected = (0.8 - math.sqrt(0.08 / 3)) ** 2
    torch.testing.assert_close(heat(image, redrawn), torch.tensor([expected, 0.0]).reshape(1, 1, 2))


def test_what_the_reconstructions_do_not_agree_on_is_no_heat():
    image = torch.full((1, 1, 2, 2), 0.5)
    copies = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1, 1).expand(2, 1, 1, 2, 2)
    redrawn = Reconstruction(torch.zeros(2, 1, 2, 2, dtype=torch.bool), copies)
    assert torch.equal(heat(image, redrawn), torch.zeros(1, 2, 2))


def test_the_heat_of_colours_is_their_mean():
    image = torch.tensor([1.0, 0.0, -0.5]).reshape(1, 3, 1, 1)
    redrawn = Reconstruction(torch.zeros(1, 1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 3, 1, 1))
    torch.testing.assert_close(heat(image, redrawn), torch.full((1, 1, 1), 1.25 / 3))


@pytest.mark.parametrize("size", [(28, 28), (56, 40), (20, 84)])
def test_the_smoothing_is_the_gaussian_of_a_second_library(size):
    maps = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    for one, result in zip(maps, smoothed(maps), strict=True):
        expected = gaussian(one.double().numpy(), max(size) / 28, mode="mirror", truncate=3)
        torch.testing.assert_close(result, torch.from_numpy(expected).float(), rtol=1e-5, atol=1e-6)


def test_with_the_exact_denoiser_most_heat_lies_where_a_stranger_was_pasted_in():
    members, _ = digits(30)
    explainer = LMD(
        Exact(members, SCHEDULE), SCHEDULE, mse, replace(explanation_config(FAST, SCHEDULE), condition="none")
    )
    size = members.shape[-1]
    top, side = size // 4, size // 2
    pasted = members[:5].clone()
    pasted[:, :, top : top + side, top : top + side] *= -1
    result = heat(pasted, explainer.reconstruct(pasted))
    inside = result[:, top : top + side, top : top + side].sum((1, 2)) / result.sum((1, 2))
    assert (inside > 0.5).all()  # a quarter by chance
    assert heat(members[:5], explainer.reconstruct(members[:5])).max() < 0.1 * result.amax((1, 2)).min()


def test_a_heat_map_is_cheap_whatever_a_score_costs_and_keeps_class_and_cells():
    config = explanation_config(PAPER, SCHEDULE)
    assert config.evaluations == 64
    assert (config.cells, config.condition, config.seed) == (PAPER.cells, PAPER.condition, PAPER.seed)
    assert explanation_config(FAST, Schedule(ScheduleConfig(steps=5))).inpainting.steps == 4
