"""What holds for every detector and every distance: one direction, one range, one meaning."""

import pytest
import torch

from fedlmd.detection import (
    LMD,
    Detector,
    LMDConfig,
    MaxLogit,
    OneStep,
    OneStepConfig,
    mse,
    scored,
    ssim_distance,
)
from fedlmd.detection.distances import deep_feature
from fedlmd.diffusion import InpaintingConfig
from fedlmd.models import CNN, ClassifierConfig
from tests.diffusion.exact import SCHEDULE, Exact, digits, seeded


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CNN(ClassifierConfig(widths=(8, 16))).eval().requires_grad_(False)


KNOWN, LABELS = digits(12)
UNKNOWN = seeded()((12, 1, 28, 28)).clamp(-1, 1)
MAPS = network().maps
DISTANCES = {"mse": (mse, 4), "ssim": (ssim_distance, 2), "features": (deep_feature(MAPS, (0, 1)), 8)}


def nearest(images):
    """The class of the nearest known digit."""
    return LABELS[(images[:, None] - KNOWN).flatten(2).square().sum(2).argmin(1)]


def logits(images):
    """A classifier that is the surer the nearer the image is to a known digit of the class."""
    squared = (images[:, None] - KNOWN).flatten(2).square().mean(2)
    return torch.stack([-squared[:, label == LABELS].amin(1) for label in LABELS.unique()], 1)


def make_detectors():
    exact = Exact(KNOWN, SCHEDULE, LABELS)
    made = {"max-logit": MaxLogit(logits)}
    for name, (distance, _) in DISTANCES.items():
        for condition in ("none", "predicted"):
            one_step = OneStepConfig(levels=(0.4, 0.5), condition=condition)
            lmd = LMDConfig(cells=14, reconstructions=2, condition=condition, inpainting=InpaintingConfig(5))
            made[f"one-step {name} {condition}"] = OneStep(exact, SCHEDULE, distance, one_step, nearest)
            made[f"lmd {name} {condition}"] = LMD(exact, SCHEDULE, distance, lmd, nearest)
    return made


DETECTORS = make_detectors()


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_gives_unknown_images_higher_scores_and_each_image_always_the_same(name):
    detector = DETECTORS[name]
    assert isinstance(detector, Detector)
    known, unknown = detector.score(KNOWN), detector.score(UNKNOWN)
    assert known.shape == unknown.shape == (12,)
    assert known.dtype == torch.float32
    assert unknown.min() > known.max()
    # The same image gets the same score: again, alone, in another order, in a batch with others.
    close = {"atol": 1e-5, "rtol": 1e-5}
    assert torch.equal(detector.score(KNOWN), known)
    torch.testing.assert_close(detector.score(KNOWN[3:4]), known[3:4], **close)
    torch.testing.assert_close(detector.score(KNOWN.flip(0)), known.flip(0), **close)
    mixed = detector.score(torch.cat([UNKNOWN[:5], KNOWN[:2]]))
    torch.testing.assert_close(mixed, torch.cat([unknown[:5], known[:2]]), **close)
    torch.testing.assert_close(scored({name: detector}, KNOWN, batch_size=5)[name], known, **close)


@pytest.mark.parametrize("name", DISTANCES)
def test_every_distance_is_0_for_equal_images_symmetric_and_rises_within_its_range(name):
    distance, most = DISTANCES[name]
    steps = [distance(KNOWN, (KNOWN + strength * UNKNOWN).clamp(-1, 1)) for strength in (0.0, 0.3, 2.0)]
    assert all(step.shape == (12,) for step in steps)
    assert steps[0].abs().max() < 1e-6
    assert (steps[0] < steps[1]).all()
    assert (steps[1] < steps[2]).all()
    assert (steps[2] <= most).all()
    torch.testing.assert_close(distance(KNOWN, UNKNOWN), distance(UNKNOWN, KNOWN))
    torch.testing.assert_close(distance(KNOWN[2:3], UNKNOWN[2:3]), distance(KNOWN, UNKNOWN)[2:3])


def test_no_detector_touches_the_global_random_state():
    before = torch.get_rng_state()
    for detector in DETECTORS.values():
        detector.score(KNOWN[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_the_largest_logit_by_hand():
    table = torch.tensor([[1.0, 4.0, -9.0], [-2.0, -3.0, -1.0]])
    assert MaxLogit(lambda images: table).score(torch.zeros(2, 1, 1, 1)).tolist() == [-4.0, 1.0]
