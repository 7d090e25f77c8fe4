"""The union of detectors: strange is what is strange to all."""

import pytest
import torch

from fedlmd.detection import Moments, Union


class Fixed:
    """A detector whose score of an image is its first pixel, times a factor; it notes what it was asked."""

    def __init__(self, factor):
        self.factor, self.asked = factor, []

    def score(self, images):
        self.asked.append(len(images))
        return self.factor * images[:, 0, 0, 0]


IMAGES = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
PLAIN = Moments(10, 0.0, 1.0)


def test_the_score_is_the_lowest_of_the_sites_in_their_own_deviations():
    union = Union([Fixed(1.0), Fixed(-1.0)], [Moments(9, 1.0, 2.0), Moments(9, -5.0, 0.5)], torch.ones(2, 1) > 0)
    first = (torch.tensor([1.0, 2.0, 3.0, 4.0]) - 1) / 2
    second = (-torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5) / 0.5
    torch.testing.assert_close(union.score(IMAGES), torch.minimum(first, second))


def test_an_image_is_above_a_threshold_only_when_it_is_for_every_site():
    torch.manual_seed(0)
    sites = [Fixed(float(factor)) for factor in torch.randn(4)]
    scales = [Moments(9, float(mean), 1.0) for mean in torch.randn(4)]
    union = Union(sites, scales, torch.ones(4, 1) > 0).score(IMAGES)
    each = torch.stack([site.score(IMAGES) - scale.mean for site, scale in zip(sites, scales, strict=True)])
    for threshold in (-1.0, 0.0, 1.0):
        assert torch.equal(union > threshold, (each > threshold).all(0))


def test_a_site_is_asked_only_for_images_taken_for_a_label_that_it_has():
    sites = [Fixed(1.0), Fixed(10.0)]
    holds = torch.tensor([[True, False, False], [True, True, False]])
    labels = torch.tensor([0, 1, 1, 2])  # nobody has the last
    union = Union(sites, [PLAIN, PLAIN], holds, lambda images: labels)
    assert union.score(IMAGES).tolist() == [1.0, 20.0, 30.0, 4.0]
    assert [site.asked for site in sites] == [[2], [4]]


def test_every_site_needs_a_detector_a_scale_and_its_labels():
    with pytest.raises(ValueError, match="1 detectors, 2 scales and the labels of 1 sites"):
        Union([Fixed(1.0)], [PLAIN, PLAIN], torch.ones(1, 1) > 0)
