"""The k-th nearest neighbour, against scikit-learn and against values of pytorch-ood 0.4.0."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from benchmarks.baselines.knn import KNN
from fedlmd.detection import Detector
from tests.benchmarks.baselines.feature_images import DOMAIN, QUERIES, check_batches, features


def test_scores_are_those_of_pytorch_ood():
    expected = torch.tensor([1.087488, 1.106561, 0.764870, 0.548643])
    torch.testing.assert_close(KNN(features, DOMAIN, k=4).score(QUERIES), expected, rtol=1e-5, atol=3e-6)


def test_an_image_has_its_own_score_whatever_its_batch():
    detector = KNN(features, DOMAIN, k=4)
    assert isinstance(detector, Detector)
    check_batches(detector)


@pytest.mark.parametrize("k", [1, 5, 24])
def test_the_kth_neighbour_is_scikit_learns(k):
    vectors = [torch.nn.functional.normalize(features(x).double()).numpy() for x in (DOMAIN, QUERIES)]
    theirs = NearestNeighbors(n_neighbors=k).fit(vectors[0]).kneighbors(vectors[1])[0][:, -1]
    torch.testing.assert_close(KNN(features, DOMAIN, k).score(QUERIES), torch.from_numpy(theirs).float())


def test_the_nearest_neighbour_of_an_in_domain_image_is_itself_however_bright():
    detector = KNN(features, DOMAIN, k=1)
    assert detector.score(7 * DOMAIN).max() < 1e-6
    assert detector.score(-DOMAIN[:1]).item() > 0.1


@pytest.mark.parametrize("k", [0, 25])
def test_a_neighbour_that_does_not_exist_is_refused(k):
    with pytest.raises(ValueError, match=f"k is {k}; with 24 in-domain images it lies between 1 and 24"):
        KNN(features, DOMAIN, k)
