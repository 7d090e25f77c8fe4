"""The union of detectors: an image is unknown only when it is unknown to all workers."""

import pytest
import torch

from fedlmd.calibration import Moments
from fedlmd.detection import Union


class Fixed:
    """A detector whose score of an image is its first pixel, times a factor; it counts the images of every call."""

    def __init__(self, factor):
        self.factor, self.counts = factor, []

    def score(self, images):
        self.counts.append(len(images))
        return self.factor * images[:, 0, 0, 0]


IMAGES = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
PLAIN = Moments(10, 0.0, 1.0)


def test_the_score_is_the_lowest_of_the_workers_each_in_its_standard_deviations():
    union = Union([Fixed(1.0), Fixed(-1.0)], [Moments(9, 1.0, 2.0), Moments(9, -5.0, 0.5)], torch.ones(2, 1) > 0)
    first = (torch.tensor([1.0, 2.0, 3.0, 4.0]) - 1) / 2
    second = (-torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5) / 0.5
    torch.testing.assert_close(union.score(IMAGES), torch.minimum(first, second))


def test_an_image_is_above_a_threshold_only_when_it_is_for_every_worker():
    torch.manual_seed(0)
    detectors = [Fixed(float(factor)) for factor in torch.randn(4)]
    scales = [Moments(9, float(mean), 1.0) for mean in torch.randn(4)]
    union = Union(detectors, scales, torch.ones(4, 1) > 0).score(IMAGES)
    each = torch.stack([part.score(IMAGES) - scale.mean for part, scale in zip(detectors, scales, strict=True)])
    for threshold in (-1.0, 0.0, 1.0):
        assert torch.equal(union > threshold, (each > threshold).all(0))


def test_a_workers_detector_scores_only_images_classified_as_a_label_that_it_has():
    detectors = [Fixed(1.0), Fixed(10.0)]
    holds = torch.tensor([[True, False, False], [True, True, False]])
    labels = torch.tensor([0, 1, 1, 2])  # no worker has the last
    union = Union(detectors, [PLAIN, PLAIN], holds, lambda images: labels)
    assert union.score(IMAGES).tolist() == [1.0, 20.0, 30.0, 4.0]
    assert [detector.counts for detector in detectors] == [[2], [4]]


def test_every_worker_needs_a_detector_a_scale_and_its_labels():
    with pytest.raises(ValueError, match="1 detectors, 2 scales and the labels of 1 workers"):
        Union([Fixed(1.0)], [PLAIN, PLAIN], torch.ones(1, 1) > 0)
