"""Multiscale score matching, with normally distributed images and with the exact denoiser of a small set."""

import pytest
import torch

from benchmarks.baselines.density import GaussianMixture, MixtureConfig
from benchmarks.baselines.msma import MSMA, MSMAConfig
from fedlmd.detection import Detector, separation
from fedlmd.diffusion import Schedule, ScheduleConfig
from tests.detection.gaussian import Gaussian
from tests.diffusion.exact import SCHEDULE, Exact, digits

MODEL = Gaussian(SCHEDULE, 0.5)
ONE = MixtureConfig(components=(1,))


@pytest.fixture(scope="module")
def detector():
    return MSMA(MODEL, SCHEDULE, MODEL.draw(100), MSMAConfig(mixture=ONE))


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_norms_of_normally_distributed_images_have_their_closed_form(kind):
    schedule = Schedule(ScheduleConfig(kind=kind))
    model = Gaussian(schedule, 0.5)
    images = model.draw(20, seed=1)
    found = MSMA(model, schedule, images, MSMAConfig(mixture=ONE)).norms(images)
    # Noise of deviation s blurs N(0, 0.25) to N(0, 0.25 + s^2), whose score is -x / (0.25 + s^2).
    sigma = torch.logspace(torch.tensor(0.02).log10(), torch.tensor(2.0).log10(), 10)
    expected = images.flatten(1).norm(dim=1)[:, None] * sigma / (0.25 + sigma**2)
    # The schedule's levels are up to a tenth of their deviation away from the wanted ones where it is steepest.
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0)
    torch.testing.assert_close(found[:, 3:], expected[:, 3:], rtol=0.02, atol=0)


def test_at_low_noise_the_norm_is_the_distance_to_the_nearest_member_in_units_of_the_noise():
    images, _ = digits(12)
    members = images[:6]
    config = MSMAConfig(levels=1, lowest=0.1, highest=0.1, mixture=ONE)
    found = MSMA(Exact(members, SCHEDULE), SCHEDULE, images, config).norms(images)[:, 0]
    nearest = (images[:, None] - members).flatten(2).norm(dim=2).amin(1)
    torch.testing.assert_close(found, nearest / 0.1, rtol=0.02, atol=1e-2)
    assert found[6:].min() > 10


def test_the_score_is_minus_the_log_density_of_the_norms(detector):
    images = MODEL.draw(5, seed=2)
    density = GaussianMixture(detector.norms(MODEL.draw(100)), ONE)
    torch.testing.assert_close(detector.score(images), density.negative_log_density(detector.norms(images)))


def test_images_too_loud_and_too_quiet_for_the_domain_are_both_strange(detector):
    known = MODEL.draw(20, seed=3)
    assert detector.score(3 * known).min() > detector.score(known).max()
    assert detector.score(known / 3).min() > detector.score(known).max()


def test_noise_is_stranger_than_digits():
    images, _ = digits(80)
    detector = MSMA(Exact(images[:40], SCHEDULE), SCHEDULE, images[40:], MSMAConfig(mixture=ONE))
    noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    # A digit far from all others may score as high as noise.
    assert separation(detector.score(digits(20, first=80)[0]), detector.score(noise)).auroc > 0.95


def test_an_image_has_its_own_score_whatever_its_batch(detector):
    assert isinstance(detector, Detector)
    images = torch.cat([MODEL.draw(4), 5 * MODEL.draw(4, seed=1)])
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


def test_a_schedule_too_coarse_for_the_levels_is_refused():
    with pytest.raises(ValueError, match=r"10 noise levels from 0.02 to 2, but the schedule has only \d different"):
        MSMA(MODEL, Schedule(ScheduleConfig(steps=9)), MODEL.draw(30))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levels": 0}, "levels is 0; at least 1"),
        ({"lowest": 0.0}, "lowest is 0.0 .* lie above 0"),
        ({"lowest": 3.0}, "lowest is 3.0 and highest is 2.0; .* in this order"),
        ({"highest": float("inf")}, "highest is inf"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MSMAConfig(**values)
