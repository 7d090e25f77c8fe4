"""DiffPath, against a pixel's way to noise computed in plain numbers, and with the exact denoiser of a small set."""

import math
from itertools import pairwise

import pytest
import torch

from benchmarks.baselines.density import GaussianMixture, MixtureConfig
from benchmarks.baselines.diffpath import DiffPath, DiffPathConfig
from fedlmd.detection import Detector, separation
from fedlmd.diffusion import Schedule, ScheduleConfig
from tests.detection.gaussian import Gaussian
from tests.diffusion.exact import SCHEDULE, Exact, digits

MODEL = Gaussian(SCHEDULE, 0.5)
ONE = DiffPathConfig(mixture=MixtureConfig(components=(1,)))


def loud(x_t, t, label=None):
    """The velocity that implies an image of five times the noisy one, well beyond [-1, 1]."""
    alpha, sigma = SCHEDULE.signal(t)
    return (alpha - 5) / sigma * x_t


def by_hand(pixel, implied):
    """The noise that a pixel meets on its way; ``implied`` gives x_0 for x_t, alpha and sigma."""
    x_0, noise, met = pixel, 0.0, []
    for level in range(0, 1000, 100):
        abar = SCHEDULE.alphas_cumprod[level].item()
        alpha, sigma = math.sqrt(abar), math.sqrt(1 - abar)
        x_t = alpha * x_0 + sigma * noise
        x_0 = min(max(implied(x_t, alpha, sigma), -1.0), 1.0)
        noise = (x_t - alpha * x_0) / sigma
        met.append(noise)
    return met


@pytest.fixture(scope="module")
def detector():
    return DiffPath(MODEL, SCHEDULE, MODEL.draw(100), ONE)


@pytest.mark.parametrize(
    ("denoiser", "implied"),
    [
        (MODEL, lambda x, alpha, sigma: alpha * 0.25 * x / (alpha**2 * 0.25 + sigma**2)),
        (loud, lambda x, alpha, sigma: 5 * x),
    ],
)
def test_the_six_statistics_are_sums_of_powers_over_pixels_and_steps(denoiser, implied):
    images = torch.tensor([[0.9, 0.3], [-0.1, -0.6]])[:, None, None]
    found = DiffPath(denoiser, SCHEDULE, MODEL.draw(20, size=2), ONE).statistics(images)
    for row, pixels in zip(found, images.flatten(1).tolist(), strict=True):
        paths = [by_hand(pixel, implied) for pixel in pixels]
        rates = [[10 * (b - a) for a, b in pairwise(path)] for path in paths]
        expected = [sum(x**power for path in of for x in path) for of in (paths, rates) for power in (1, 2, 3)]
        torch.testing.assert_close(row, torch.tensor(expected), rtol=2e-3, atol=2e-3)


def test_of_the_negative_of_an_image_the_odd_powers_change_sign(detector):
    images = MODEL.draw(4, seed=1)
    signs = torch.tensor([-1, 1, -1, -1, 1, -1])
    torch.testing.assert_close(detector.statistics(-images), signs * detector.statistics(images))


def test_for_standard_normal_images_the_way_goes_in_even_steps_along_a_circle():
    """Then the noise is sigma x_t at every level, and x_t shrinks by the cosine of every step's angle."""
    model = Gaussian(SCHEDULE, 1.0)
    images = (model.draw(3) / 10).clamp(-0.3, 0.3)
    found = torch.stack(list(DiffPath(model, SCHEDULE, model.draw(50), ONE).path(images)))
    angles = SCHEDULE.alphas_cumprod[::100].sqrt().acos().float()
    shrunk = torch.cat([angles[:1], angles.diff()]).cos().cumprod(0)
    expected = (angles.sin() * shrunk)[:, None, None, None, None] * images
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_score_is_minus_the_log_density_of_the_statistics(detector):
    images = MODEL.draw(5, seed=2)
    density = GaussianMixture(detector.statistics(MODEL.draw(100)), ONE.mixture)
    torch.testing.assert_close(detector.score(images), density.negative_log_density(detector.statistics(images)))


def test_images_too_loud_for_the_domain_and_those_of_another_mean_are_strange(detector):
    known = MODEL.draw(20, seed=3).clamp(-1, 1)
    scores = detector.score(known)
    assert detector.score(torch.where(known < 0, -1.0, 1.0)).min() > scores.max()
    assert separation(scores, detector.score(known.abs())).auroc > 0.95


def test_noise_is_stranger_than_digits():
    images, _ = digits(80)
    detector = DiffPath(Exact(images[:40], SCHEDULE), SCHEDULE, images[40:], ONE)
    noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert detector.score(noise).min() > detector.score(digits(20, first=80)[0]).max()


def test_an_image_has_its_own_score_whatever_its_batch(detector):
    assert isinstance(detector, Detector)
    images = torch.cat([MODEL.draw(4), MODEL.draw(4, seed=1).abs()])
    scores = detector.score(images)
    assert scores.shape == (8,)
    assert scores.dtype == torch.float32
    assert torch.equal(detector.score(images), scores)
    torch.testing.assert_close(detector.score(images.flip(0)), scores.flip(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(detector.score(images[5:6]), scores[5:6], rtol=1e-4, atol=1e-4)


def test_the_evaluations_are_those_that_happen(detector):
    before = MODEL.evaluated
    detector.score(MODEL.draw(3))
    assert MODEL.evaluated - before == 3 * detector.evaluations == 30


def test_more_steps_than_levels_are_refused():
    with pytest.raises(ValueError, match="10 steps; the schedule has 9 levels"):
        DiffPath(MODEL, Schedule(ScheduleConfig(steps=9)), MODEL.draw(30))


def test_a_single_step_is_refused():
    with pytest.raises(ValueError, match="steps is 1; a rate of change needs at least 2"):
        DiffPathConfig(steps=1)
