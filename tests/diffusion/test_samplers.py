"""The reverse process, against diffusers' schedulers and with the exact denoiser."""

from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from fedlmd.data import to_pixels
from fedlmd.diffusion import Schedule, ScheduleConfig, reverse_step, timesteps
from tests.diffusion.exact import SCHEDULE, Exact, digits, seeded

KINDS = {"cosine": "squaredcos_cap_v2", "linear": "linear"}
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def in_double(scheduler):
    """A scheduler of diffusers with its levels multiplied up in double precision.

    Of 1 - 0.9999, single precision leaves three digits, and which ones depends on the processor.
    """
    scheduler.alphas_cumprod = torch.cumprod(1 - scheduler.betas.double(), 0)
    return scheduler


def wild(seed=0):
    """A noisy image and a velocity that implies pixels beyond [-1, 1], so that clipping matters."""
    noise = seeded(seed)
    return noise((4, 1, 6, 6)), noise((4, 1, 6, 6)), noise((4, 1, 6, 6))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_a_reverse_step_is_ddims(kind, eta, steps):
    other = in_double(
        DDIMScheduler(
            beta_schedule=KINDS[kind],
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            set_alpha_to_one=True,
            clip_sample=True,
        )
    )
    other.set_timesteps(steps)
    schedule = Schedule(ScheduleConfig(kind=kind))
    levels = timesteps(schedule, steps)
    assert levels[:-1] == other.timesteps.tolist()
    for index in (0, steps // 2, steps - 1):
        x_t, v, noise = wild(index)
        theirs = other.step(v, levels[index], x_t, eta=eta, use_clipped_model_output=True, variance_noise=noise)
        ours = reverse_step(schedule, x_t, v, levels[index], levels[index + 1], eta=eta, noise=noise)
        torch.testing.assert_close(ours, theirs.prev_sample, **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [999, 500, 20, 1, 0])
def test_with_all_levels_and_eta_one_it_is_ddpms_ancestral_step(kind, t):
    form = {"prediction_type": "v_prediction", "variance_type": "fixed_small", "clip_sample": True}
    other = in_double(DDPMScheduler(beta_schedule=KINDS[kind], **form))
    x_t, v, _ = wild(t)
    theirs = other.step(v, t, x_t, generator=torch.Generator().manual_seed(t)).prev_sample
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(t))
    ours = reverse_step(Schedule(ScheduleConfig(kind=kind)), x_t, v, t, t - 1, eta=1.0, noise=noise)
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_without_eta_the_noise_does_not_matter():
    x_t, v, noise = wild()
    steps = [reverse_step(SCHEDULE, x_t, v, 700, 600, eta=0.0, noise=n) for n in (noise, noise + 1)]
    assert torch.equal(*steps)


def test_the_last_step_gives_the_clipped_image():
    x_t, v, noise = wild()
    ended = reverse_step(SCHEDULE, x_t, v, 300, -1, noise=noise)
    assert torch.equal(ended, SCHEDULE.denoised(x_t, v, torch.full((4,), 300)).clamp(-1, 1))
    assert ended.abs().max() == 1


@pytest.mark.parametrize(
    ("steps", "start", "expected"),
    [
        (1, 1.0, [999, -1]),
        (4, 1.0, [999, 749, 499, 249, -1]),
        (4, 0.5, [499, 374, 249, 124, -1]),
        (3, 0.01, [9, 6, 2, -1]),
        (5, 0.005, [4, 3, 2, 1, 0, -1]),
    ],
)
def test_the_levels_that_a_sampler_visits(steps, start, expected):
    assert timesteps(Schedule(), steps, start) == expected


@pytest.mark.parametrize("levels", [2, 7, 30])
def test_any_number_of_steps_visits_so_many_different_levels(levels):
    schedule = Schedule(ScheduleConfig(levels))
    for steps in range(1, levels + 1):
        visited = timesteps(schedule, steps)
        assert visited[0] == levels - 1
        assert visited[-1] == -1
        assert len(visited) == steps + 1
        assert visited == sorted(set(visited), reverse=True)


@pytest.mark.parametrize(("steps", "start", "most"), [(0, 1.0, 1000), (1001, 1.0, 1000), (501, 0.5, 500)])
def test_more_steps_than_levels_are_refused(steps, start, most):
    with pytest.raises(ValueError, match=f"{steps} sampling steps; .* up to {start:g}: take 1 to {most}"):
        timesteps(Schedule(), steps, start)


def sample(denoiser, shape, steps, noise, eta=1.0, label=None):
    """Images drawn from pure noise; the states after all steps."""
    x, states = noise(shape), []
    for t, s in pairwise(timesteps(SCHEDULE, steps)):
        v = denoiser(x, torch.full((len(x),), t), label)
        x = reverse_step(SCHEDULE, x, v, t, s, eta=eta, noise=noise(shape))
        states.append(x)
    return states


def members(drawn, images):
    """Which image of the set each drawn one is, byte for byte; -1 for none."""
    same = (to_pixels(drawn)[:, None] == to_pixels(images)[None]).flatten(2).all(2)
    return torch.where(same.any(1), same.int().argmax(1), -1)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_sampling_from_the_exact_denoiser_only_gives_images_of_its_set_and_each_equally_often(eta):
    images, _ = digits(3)
    states = sample(Exact(images, SCHEDULE), (150, 1, 28, 28), 40, seeded(), eta)
    assert len(states) == 40
    indices = members(states[-1], images)
    assert (indices >= 0).all()
    # 50 each, give or take three standard deviations of a binomial count.
    assert ((indices.bincount(minlength=3) - 50).abs() < 18).all()


def test_a_label_draws_only_images_of_its_class():
    images, labels = digits(30)
    wanted = labels[:10]
    *_, drawn = sample(Exact(images, SCHEDULE, labels), (10, 1, 28, 28), 40, seeded(), label=wanted)
    indices = members(drawn, images)
    assert (indices >= 0).all()
    assert torch.equal(labels[indices], wanted)


def test_the_same_noise_gives_the_same_images():
    exact = Exact(digits(5)[0], SCHEDULE)
    first, again = (sample(exact, (2, 1, 28, 28), 5, seeded(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
