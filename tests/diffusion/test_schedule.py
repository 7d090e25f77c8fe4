"""The forward process, against diffusers and against its own inverse."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from fedlmd.diffusion import Schedule, ScheduleConfig

KINDS = {"cosine": "squaredcos_cap_v2", "linear": "linear"}


def theirs(kind, steps):
    return DDPMScheduler(num_train_timesteps=steps, beta_schedule=KINDS[kind], prediction_type="v_prediction")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.rand(6, 3, 4, 4, generator=generator) * 2 - 1
    return x_0, torch.randn(x_0.shape, generator=generator), torch.tensor([0, 1, 17, 500, 998, 999])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [2, 50, 1000])
def test_the_noise_levels_are_those_of_diffusers(kind, steps):
    ours = Schedule(ScheduleConfig(steps, kind))
    assert len(ours) == steps
    assert ours.alphas_cumprod.dtype == torch.float64
    other = theirs(kind, steps).alphas_cumprod.double()
    torch.testing.assert_close(ours.alphas_cumprod, other, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_fall_from_nearly_clean_to_nearly_pure_noise(kind):
    abar = Schedule(ScheduleConfig(kind=kind)).alphas_cumprod
    assert (abar.diff() < 0).all()
    assert abar[0] > 0.9998
    assert 0 < abar[-1] < 1e-4


def test_the_cosine_level_in_the_middle_has_its_closed_form():
    abar = [math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (0, 0.5)]
    assert Schedule().alphas_cumprod[499].item() == pytest.approx(abar[1] / abar[0], rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_noisy_images_and_velocities_are_those_of_diffusers(kind, batch):
    x_0, noise, t = batch
    ours, other = Schedule(ScheduleConfig(kind=kind)), theirs(kind, 1000)
    torch.testing.assert_close(ours.add_noise(x_0, noise, t), other.add_noise(x_0, noise, t), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.velocity(x_0, noise, t), other.get_velocity(x_0, noise, t), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_image_and_noise_follow_from_the_velocity(kind, batch):
    x_0, noise, t = batch
    schedule = Schedule(ScheduleConfig(kind=kind))
    x_t, v = schedule.add_noise(x_0, noise, t), schedule.velocity(x_0, noise, t)
    torch.testing.assert_close(schedule.denoised(x_t, v, t), x_0, atol=2e-6, rtol=0)
    torch.testing.assert_close(schedule.noise(x_t, v, t), noise, atol=2e-6, rtol=0)


def test_level_minus_one_is_the_image_itself_bit_for_bit(batch):
    x_0, noise, t = batch
    clean = torch.full_like(t, -1)
    assert torch.equal(Schedule().add_noise(x_0, noise, clean), x_0)
    assert torch.equal(Schedule().velocity(x_0, noise, clean), noise)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 1}, "steps is 1; it is 2 or more"),
        ({"kind": "sigmoid"}, "kind is 'sigmoid'; choose one of cosine, linear"),
    ],
)
def test_an_impossible_schedule_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**values)
