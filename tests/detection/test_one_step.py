"""One-step denoising, by hand and with the exact denoiser."""

import math

import pytest
import torch

from fedlmd.detection import OneStep, OneStepConfig, fixed_noise, mse, separation
from tests.diffusion.exact import SCHEDULE, Exact, digits

PLAIN = OneStepConfig(levels=(0.5, 0.6), condition="none")


def test_the_score_is_the_mean_log_distance_to_the_posterior_means_by_hand():
    images, _ = digits(4)
    exact = Exact(images[:2], SCHEDULE)
    noise = fixed_noise(PLAIN.seed, range(2))((2, 1, 28, 28))[:, None]
    expected = torch.zeros(4)
    for level, drawn in zip((499, 599), noise, strict=True):
        t = torch.full((4,), level)
        x_t = SCHEDULE.add_noise(images, drawn.expand_as(images), t)
        expected += mse(images, exact.mean(x_t, t)).clamp(min=1e-8).log() / 2
    torch.testing.assert_close(OneStep(exact, SCHEDULE, mse, PLAIN).score(images), expected, atol=1e-4, rtol=1e-4)


def test_the_exact_denoiser_tells_members_from_strangers_without_an_error():
    inside, outside = digits(30)[0], digits(30, first=30)[0]
    detector = OneStep(Exact(inside, SCHEDULE), SCHEDULE, mse, PLAIN)
    assert separation(detector.score(inside), detector.score(outside)).auroc == 1.0


def test_an_image_is_compared_with_those_of_its_predicted_class():
    images, _ = digits(2)
    exact = Exact(images, SCHEDULE, torch.tensor([0, 1]))

    def score(label):
        return OneStep(exact, SCHEDULE, mse, OneStepConfig((0.5,)), lambda x: torch.full((2,), label)).score(images)

    # What is the same to the last digit counts as 1e-8 apart.
    same, apart = math.log(1e-8), math.log(mse(images[:1], images[1:]).item())
    expected = torch.tensor([[same, apart], [apart, same]])
    torch.testing.assert_close(torch.stack([score(0), score(1)]), expected, atol=1e-4, rtol=1e-4)


def test_the_predicted_class_needs_a_classifier():
    with pytest.raises(ValueError, match="'predicted' needs a classifier"):
        OneStep(lambda x, t, label=None: x, SCHEDULE, mse)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levels": ()}, "at least one"),
        ({"levels": (0.0,)}, r"each in \(0, 1\)"),
        ({"levels": (0.5, 1.0)}, r"each in \(0, 1\)"),
        ({"distance": "l1"}, "distance is 'l1'; choose one of mse, ssim"),
        ({"condition": "true"}, "condition is 'true'; choose one of none, predicted"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        OneStepConfig(**values)
