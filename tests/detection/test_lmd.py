"""Lift, Map, Detect: by hand with reconstructions that are given, and with the exact denoiser of a small data set."""

import pytest
import torch

from fedlmd.detection import LMD, PAPER, LMDConfig, Reconstruction, fixed_noise, mse, separation
from fedlmd.detection.lmd import FAST
from fedlmd.diffusion import InpaintingConfig
from tests.diffusion.exact import SCHEDULE, Exact, digits

PLAIN = LMDConfig(cells=14, reconstructions=3, condition="none", inpainting=InpaintingConfig(10))


def nothing(x_t, t, label=None):
    return torch.zeros_like(x_t)


def detector_of(redrawn):
    """A detector with given reconstructions."""
    detector = LMD(nothing, SCHEDULE, mse, PLAIN)
    detector.reconstruct = lambda images: redrawn
    return detector


def test_the_score_is_the_median_of_the_distances_by_hand():
    images = torch.zeros(2, 1, 2, 2)
    # Distances 0.01, 1 and 0.25 to the first image, 0.04, 0.04 and 4 to the second.
    values = torch.tensor([[0.1, 0.2], [1.0, 0.2], [0.5, 2.0]])
    copies = values[:, :, None, None, None].expand(3, 2, 1, 2, 2)
    redrawn = Reconstruction(torch.ones(3, 1, 2, 2, dtype=torch.bool), copies)
    torch.testing.assert_close(detector_of(redrawn).score(images), torch.tensor([0.25, 0.04]))


def test_the_median_of_an_even_number_lies_between_the_middle_two():
    copies = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1, 1)
    redrawn = Reconstruction(torch.ones(2, 1, 1, 1, dtype=torch.bool), copies)
    assert detector_of(redrawn).score(torch.zeros(1, 1, 1, 1)).item() == 2.5


@pytest.mark.parametrize("condition", ["none", "predicted"])
def test_the_exact_denoiser_separates_members_from_other_images_without_an_error(condition):
    inside, labels = digits(30)
    outside, _ = digits(30, first=30)

    def classify(images):
        known = (images[:, None] - inside).flatten(2).square().sum(2).argmin(1)
        return labels[known]

    config = LMDConfig(cells=14, reconstructions=3, condition=condition, inpainting=InpaintingConfig(10))
    detector = LMD(Exact(inside, SCHEDULE, labels), SCHEDULE, mse, config, classify)
    result = separation(detector.score(inside), detector.score(outside))
    assert (result.auroc, result.fpr95) == (1.0, 0.0)


@pytest.mark.parametrize("label", [0, 1])
def test_an_unknown_image_is_redrawn_as_the_member_of_the_predicted_class(label):
    inside, unknown = digits(2)[0], digits(1, first=9)[0]
    exact = Exact(inside, SCHEDULE, torch.tensor([0, 1]))
    config = LMDConfig(reconstructions=2, inpainting=InpaintingConfig(20))
    keep, redrawn = LMD(exact, SCHEDULE, mse, config, lambda x: torch.full((1,), label)).reconstruct(unknown)
    hidden = ~keep[:, None].expand_as(redrawn)
    torch.testing.assert_close(redrawn[hidden], inside[label].expand_as(redrawn)[hidden], atol=1e-3, rtol=0)


def test_every_reconstruction_keeps_what_its_mask_keeps():
    images, _ = digits(3)
    keep, redrawn = LMD(nothing, SCHEDULE, mse, PLAIN).reconstruct(images)
    assert keep.shape == (3, 1, 28, 28)
    assert redrawn.shape == (3, 3, 1, 28, 28)
    for mask, copies in zip(keep, redrawn, strict=True):
        assert torch.equal(copies[:, mask], images[:, mask])


def test_the_seed_decides_masks_and_noise():
    images, _ = digits(2)

    def reconstruct(seed):
        config = LMDConfig(mask="random", condition="none", inpainting=InpaintingConfig(2), seed=seed)
        return LMD(nothing, SCHEDULE, mse, config).reconstruct(images)

    assert torch.equal(reconstruct(1).images, reconstruct(1).images)
    assert not torch.equal(reconstruct(1).keep, reconstruct(2).keep)


def test_fixed_noise_differs_between_repeats_and_not_between_the_images_of_a_batch():
    noise = fixed_noise(0, range(3))
    drawn = noise((12, 1, 5, 5)).reshape(3, 4, 1, 5, 5)
    assert torch.equal(drawn, drawn[:, :1].expand_as(drawn))
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0, 0], noise((12, 1, 5, 5))[0])


def test_a_reconstruction_is_the_same_whichever_others_are_asked_for():
    images, labels = digits(4)
    config = LMDConfig(mask="random", reconstructions=4, condition="none", inpainting=InpaintingConfig(3))
    detector = LMD(Exact(images, SCHEDULE, labels), SCHEDULE, mse, config)
    every, last = detector.reconstruct(images), detector.reconstruct(images, range(2, 4))
    assert torch.equal(last.keep, every.keep[2:])
    torch.testing.assert_close(last.images, every.images[2:])


def test_the_presets_are_the_papers_and_a_hundred_times_cheaper():
    assert (PAPER.mask, PAPER.cells, PAPER.reconstructions) == ("alternating-checkerboard", 8, 10)
    assert (PAPER.distance, PAPER.condition, PAPER.inpainting) == ("lpips", "none", InpaintingConfig(1000, 1.0, 1.0))
    assert PAPER.evaluations == 10_000
    assert FAST.evaluations <= 100


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"reconstructions": 0}, "reconstructions is 0; it is 1 or more"),
        ({"mask": "stripes"}, "mask is 'stripes'; choose one of center"),
        ({"distance": "l1"}, "distance is 'l1'; choose one of mse, ssim"),
        ({"condition": "true"}, "condition is 'true'; choose one of none, predicted"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        LMDConfig(**values)


def test_the_predicted_class_needs_a_classifier():
    with pytest.raises(ValueError, match="'predicted' needs a classifier; give one or set"):
        LMD(nothing, SCHEDULE, mse, FAST)
