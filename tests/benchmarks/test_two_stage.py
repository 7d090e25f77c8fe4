"""Two stages: by hand with distances that are given, and with the exact denoiser of a small data set."""

import numpy as np
import pytest
import torch

from benchmarks.two_stage import TwoStage, TwoStageConfig
from fedlmd.calibration import Moments, Reference, Sketch
from fedlmd.detection import LMD, LMDConfig, mse, separation
from fedlmd.diffusion import InpaintingConfig
from tests.diffusion.exact import SCHEDULE, Exact, digits

# Of 199 scores: above 0.7 the p-value is at most 0.3, above 0.99 at most 0.01.
REFERENCE = Reference.of([(Sketch.of(np.arange(1, 200) / 200), 1.0)])
LOW, HIGH = REFERENCE.threshold(0.3), REFERENCE.threshold(0.01)
SCALE = Moments(199, 0.5, 0.25)
PLAIN = LMDConfig(cells=2, reconstructions=7, condition="none", inpainting=InpaintingConfig(2))


class Brightness:
    """A first score that is easily made: the mean pixel."""

    def score(self, images):
        return images.mean((1, 2, 3))


def grey(*values):
    """Images of these first scores."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, 8, 8).contiguous()


def nothing(x_t, t, label=None):
    return torch.zeros_like(x_t)


def two_stage(distance, **options):
    return TwoStage(Brightness(), REFERENCE, LMD(nothing, SCHEDULE, distance, PLAIN), SCALE, TwoStageConfig(**options))


def constant(images, copies):
    """Every reconstruction is off by 1: two in-domain standard deviations more than usual."""
    return torch.ones(len(images))


def test_certain_images_keep_their_scores_and_take_no_reconstruction():
    images = grey(-0.9, 0.1, 0.69, LOW, HIGH + 0.004, 3.0)
    evaluated = two_stage(constant).both_stages(images)
    assert evaluated.scores.tolist() == pytest.approx([-0.9, 0.1, 0.69, LOW, HIGH + 0.004, 3.0])
    assert evaluated.drawn.tolist() == [0] * 6


def test_p_values_decide_which_images_are_uncertain():
    scores = torch.linspace(-0.2, 1.2, 1401)
    p_values = torch.from_numpy(REFERENCE.p_values(scores.double().numpy()))
    assert torch.equal(two_stage(constant).uncertain(scores), (p_values > 0.01) & (p_values <= 0.3))


def test_an_uncertain_image_gets_the_sum_compressed_into_the_band():
    first = 0.8
    evaluated = two_stage(constant).both_stages(grey(first))
    away = (first + (1.0 - 0.5) / 0.25 - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    assert evaluated.scores.item() == pytest.approx((LOW + HIGH) / 2 + (HIGH - LOW) / 2 * away / (1 + away), abs=1e-6)


def test_no_uncertain_image_passes_a_certain_one_and_the_sum_orders_them():
    two = two_stage(constant)
    sums = torch.tensor([-1e6, -3.0, LOW, 0.9, HIGH, 4.0, 50.0, 1e6])
    compressed = two.compressed(sums)
    assert (compressed.diff() > 0).all()
    assert LOW <= float(compressed[0]) < float(compressed[-1]) <= HIGH


def test_no_more_is_drawn_where_distances_agree():
    assert two_stage(constant).both_stages(grey(0.8, 0.2, 0.9)).drawn.tolist() == [2, 0, 2]


def test_all_are_drawn_where_no_error_is_small_enough():
    two = two_stage(mse, tolerance=0.0)
    images = grey(0.8, 0.9)
    evaluated = two.both_stages(images)
    assert evaluated.drawn.tolist() == [7, 7]
    whole = two.compressed(images.mean((1, 2, 3)) + (two.lmd.score(images) - 0.5) / 0.25)
    torch.testing.assert_close(evaluated.scores, whole)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_drawing_ends_for_each_image_when_its_own_error_is_below_the_tolerance(at_once):
    generator = torch.Generator().manual_seed(0)
    noisy = torch.rand(12, 1, 8, 8, generator=generator) * torch.linspace(0.0, 1.0, 12)[:, None, None, None]
    images = noisy - noisy.mean((1, 2, 3), keepdim=True) + torch.linspace(0.75, 0.98, 12)[:, None, None, None]
    two = two_stage(lambda a, b: (a - b).square().mean((1, 2, 3)), tolerance=0.06, at_once=at_once)
    every = two.lmd.distances(images, two.lmd.reconstruct(images))
    expected = []
    for distances in every.T:
        counts = [min(count, 7) for count in range(at_once, 7 + at_once, at_once) if min(count, 7) > 1]
        errors = {count: float(distances[:count].std()) / count**0.5 for count in counts}
        expected.append(next((count for count, error in errors.items() if error < 0.06 * SCALE.std), 7))
    evaluated = two.both_stages(images)
    assert evaluated.drawn.tolist() == expected
    assert len(set(expected)) > 1, "all ended alike, which shows nothing"
    medians = torch.stack([distances[:count].quantile(0.5) for distances, count in zip(every.T, expected, strict=True)])
    sums = images.mean((1, 2, 3)) + (medians - 0.5) / 0.25
    torch.testing.assert_close(evaluated.scores, two.compressed(sums), atol=1e-5, rtol=1e-4)


def test_the_second_stage_separates_what_the_first_does_not():
    inside, outside = digits(20)[0], digits(20, first=30)[0]

    class Blind:
        def score(self, images):
            return torch.full((len(images),), 0.9)

    config = LMDConfig(cells=14, reconstructions=4, condition="none", inpainting=InpaintingConfig(10))
    lmd = LMD(Exact(inside, SCHEDULE), SCHEDULE, mse, config)
    two = TwoStage(Blind(), REFERENCE, lmd, Moments(199, 0.0, 0.05))
    assert separation(two.score(inside), two.score(outside)).auroc == 1.0


def test_too_few_in_domain_images_are_refused():
    few = Reference.of([(Sketch.of(torch.rand(50).numpy()), 1.0)])
    with pytest.raises(ValueError, match=r"50 in-domain images leave no band .* calibrate with more"):
        TwoStage(Brightness(), few, LMD(nothing, SCHEDULE, mse, PLAIN), SCALE)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"p_unknown": 0.3, "p_known": 0.3}, "they rise between 0 and 1"),
        ({"p_known": 1.0}, "they rise between 0 and 1"),
        ({"tolerance": -0.1}, "at least 0 and 1"),
        ({"at_once": 0}, "at least 0 and 1"),
    ],
)
def test_settings_out_of_range_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        TwoStageConfig(**options)
