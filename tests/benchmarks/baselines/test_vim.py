"""Virtual-logit matching, by hand and against values of pytorch-ood 0.4.0."""

import pytest
import torch

from benchmarks.baselines.vim import ViM
from fedlmd.detection import Detector
from tests.benchmarks.baselines.feature_images import DOMAIN, QUERIES, as_images, check_batches, features, table

WEIGHT, BIAS = table(3, 6, 0.25).float(), table(1, 3, 0.75)[0].float()


def test_scores_are_those_of_pytorch_ood():
    expected = torch.tensor([-0.612271, 0.078017, 0.070910, -0.596193])
    scores = ViM(features, DOMAIN, WEIGHT, BIAS, dimensions=2).score(QUERIES)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=3e-6)


def test_an_image_has_its_own_score_whatever_its_batch():
    detector = ViM(features, DOMAIN, WEIGHT, BIAS, dimensions=2)
    assert isinstance(detector, Detector)
    check_batches(detector)


def test_the_virtual_logit_by_hand():
    """Features spread along the first axis only, but for 0.1 along the second: the residual."""
    domain = as_images(torch.tensor([[4.0, 0.1], [-4.0, 0.1], [4.0, -0.1], [-4.0, -0.1]]))
    weight, bias = torch.eye(2), torch.zeros(2)
    detector = ViM(features, domain, weight, bias)
    # The largest logits are 4, 0.1, 4 and -0.1; the scale brings the mean residual of 0.1 to their mean of 2.
    queries = torch.tensor([[4.0, 0.0], [0.0, 3.0]])
    expected = torch.tensor([0.0, 20 * 3.0]) - queries.logsumexp(1)
    torch.testing.assert_close(detector.score(as_images(queries)), expected)


def test_the_principal_subspace_takes_half_of_the_dimensions_by_default():
    half = ViM(features, DOMAIN, WEIGHT, BIAS).score(QUERIES)
    torch.testing.assert_close(half, ViM(features, DOMAIN, WEIGHT, BIAS, dimensions=3).score(QUERIES))


@pytest.mark.parametrize(("dimensions", "count"), [(6, 24), (-1, 24), (2, 0)])
def test_an_impossible_subspace_is_refused(dimensions, count):
    with pytest.raises(ValueError, match=f"dimensions is {dimensions}, with {count} .* features of 6 dimensions take"):
        ViM(features, DOMAIN[:count], WEIGHT, BIAS, dimensions)
