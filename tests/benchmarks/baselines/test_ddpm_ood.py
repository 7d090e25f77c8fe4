"""DDPM-OOD, against reconstructions made one by one and with the exact denoiser of a small set."""

from itertools import pairwise

import pytest
import torch

from benchmarks.baselines.ddpm_ood import DDPMOOD, DDPMOODConfig
from fedlmd.detection import Detector, fixed_noise, mse, ssim_distance
from fedlmd.diffusion import reverse_step, timesteps
from tests.detection.gaussian import Gaussian
from tests.diffusion.exact import SCHEDULE, Exact, digits

IMAGES, _ = digits(40)
EXACT = Exact(IMAGES[:20], SCHEDULE)
SMALL = DDPMOODConfig(levels=3, steps=6)


@pytest.fixture(scope="module")
def detector():
    """The in-domain images are members and other digits, so that errors of all sizes occur."""
    return DDPMOOD(EXACT, SCHEDULE, (mse, ssim_distance), IMAGES[10:30], SMALL)


def one_by_one(image, denoiser=EXACT, config=SMALL):
    """One image redrawn from every level, highest first, each on its own."""
    noises = fixed_noise(config.seed, range(config.levels))((config.levels, *image.shape))
    for length, noise in zip(config.lengths, noises, strict=True):
        levels = timesteps(SCHEDULE, config.steps)[-length - 1 :]
        x = SCHEDULE.add_noise(image[None], noise[None], torch.tensor([levels[0]]))
        for t, s in pairwise(levels):
            v = denoiser(x, torch.tensor([t]))
            x = reverse_step(SCHEDULE, x, v, t, s, eta=0.0, noise=torch.zeros_like(x))
        yield x[0]


@pytest.mark.parametrize("denoiser", [EXACT, Gaussian(SCHEDULE, 0.5)])
def test_every_reconstruction_is_the_one_made_alone(denoiser):
    images = IMAGES[18:22]
    found = DDPMOOD(denoiser, SCHEDULE, (mse,), images, SMALL).reconstructions(images)
    expected = torch.stack([torch.stack(list(one_by_one(image, denoiser))) for image in images], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_member_comes_back_from_little_noise_and_a_stranger_as_a_member(detector):
    inside, outside = IMAGES[:10], IMAGES[30:]
    assert detector.errors(inside)[:, -1].max() < 1e-4
    redrawn = detector.reconstructions(outside)[-1]
    apart = (redrawn[:, None] - IMAGES[:20]).flatten(2).abs().amax(2)
    assert (apart.amin(1) < 1e-3).all()


def test_the_score_is_the_mean_z_score_by_hand(detector):
    def errors(images):
        redrawn = [list(one_by_one(image)) for image in images]
        return torch.tensor(
            [
                [distance(image[None], copy[None]).item() for copy in copies for distance in (mse, ssim_distance)]
                for image, copies in zip(images, redrawn, strict=True)
            ]
        )

    fitted = errors(IMAGES[10:30])
    expected = ((errors(IMAGES[5:35:5]) - fitted.mean(0)) / fitted.std(0)).mean(1)
    torch.testing.assert_close(detector.score(IMAGES[5:35:5]), expected, rtol=1e-3, atol=1e-3)


def test_in_domain_images_score_nought_on_average(detector):
    assert abs(detector.score(IMAGES[10:30]).mean().item()) < 1e-5


def test_of_two_distances_each_counts_as_much_as_alone(detector):
    alone = [DDPMOOD(EXACT, SCHEDULE, (distance,), IMAGES[10:30], SMALL) for distance in (mse, ssim_distance)]
    expected = torch.stack([each.score(IMAGES) for each in alone]).mean(0)
    torch.testing.assert_close(detector.score(IMAGES), expected)


def test_strangers_and_noise_are_stranger_than_members(detector):
    members = detector.score(IMAGES[:10]).max()
    assert detector.score(IMAGES[30:]).min() > members
    noise = torch.randn(10, 1, 28, 28, generator=torch.Generator().manual_seed(9)).clamp(-1, 1)
    assert detector.score(noise).min() > detector.score(IMAGES[30:]).max()


def test_where_all_in_domain_images_come_back_the_scores_are_still_finite():
    detector = DDPMOOD(EXACT, SCHEDULE, (mse,), IMAGES[:10], DDPMOODConfig(levels=1, steps=2))
    assert detector.errors(IMAGES[:10]).max() < 1e-4
    assert detector.score(IMAGES).isfinite().all()
    assert detector.score(IMAGES[30:]).min() > 100


def test_an_image_has_its_own_score_whatever_its_batch(detector):
    assert isinstance(detector, Detector)
    images = IMAGES[15:25]
    scores = detector.score(images)
    assert scores.shape == (10,)
    assert scores.dtype == torch.float32
    assert torch.equal(detector.score(images), scores)
    torch.testing.assert_close(detector.score(images.flip(0)), scores.flip(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(detector.score(images[5:6]), scores[5:6], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "lengths", "evaluations"),
    [
        (DDPMOODConfig(), tuple(range(19, 0, -2)), 100),
        # The authors' code: 100 steps, of whose levels [1::4] are starting points.
        (DDPMOODConfig(25, 100), tuple(range(98, 0, -4)), 1250),
        (DDPMOODConfig(4, 4), (4, 3, 2, 1), 10),
        (DDPMOODConfig(2, 5), (4, 2), 6),
    ],
)
def test_the_levels_lie_in_the_middles_of_equal_parts(config, lengths, evaluations):
    assert config.lengths == lengths
    assert config.evaluations == evaluations


@pytest.mark.parametrize("config", [SMALL, DDPMOODConfig(), DDPMOODConfig(2, 5)])
def test_the_evaluations_are_those_that_happen(config):
    model = Gaussian(SCHEDULE, 0.5)
    detector = DDPMOOD(model, SCHEDULE, (mse,), model.draw(5), config)
    before = model.evaluated
    detector.score(model.draw(3))
    assert model.evaluated - before == 3 * detector.evaluations


@pytest.mark.parametrize(("distances", "count"), [((), 5), ((mse,), 1)])
def test_a_missing_distance_or_domain_is_refused(distances, count):
    with pytest.raises(ValueError, match=f"{len(distances)} distances and {count} in-domain images; at least 1 and 2"):
        DDPMOOD(EXACT, SCHEDULE, distances, IMAGES[:count])


@pytest.mark.parametrize(("levels", "steps"), [(0, 20), (21, 20), (1, 0)])
def test_settings_out_of_range_are_refused(levels, steps):
    with pytest.raises(ValueError, match=f"levels is {levels}; with {steps} steps it lies between"):
        DDPMOODConfig(levels, steps)
