"""Detectors on logits and features, by hand, against scikit-learn and against values of pytorch-ood 0.4.0."""

import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from fedlmd.detection import Detector
from fedlmd.detection.feature_space import (
    KNN,
    ClassGaussians,
    Energy,
    Mahalanobis,
    ViM,
    directions,
)


def table(rows, columns, shift):
    """Numbers that look drawn by chance and are not."""
    i = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)
    return torch.sin(1.7 * i + shift + 0.01 * i * i)


def as_images(vectors):
    return vectors.float()[:, :, None, None]


def features(images):
    """For images whose pixels are the features."""
    return images.flatten(1)


def fitted(domain, labels, shrinkage=0.1):
    """The detector whose Gaussians are torch's own means and covariances."""
    classes = [features(domain[labels == label]).double() for label in labels.unique()]
    counts = torch.tensor([len(of) for of in classes]).double()
    covariances = [torch.cov(of.T, correction=0) for of in classes]
    return Mahalanobis(
        features,
        ClassGaussians(counts, torch.stack([of.mean(0) for of in classes]), torch.stack(covariances)),
        shrinkage,
    )


DOMAIN, LABELS = as_images(table(24, 6, 0.0)), torch.arange(24) % 3
QUERIES = as_images(1.5 * table(4, 6, 0.5))
WEIGHT, BIAS = table(3, 6, 0.25).float(), table(1, 3, 0.75)[0].float()
DETECTORS = {
    "energy": Energy(lambda images: features(images) @ WEIGHT.T + BIAS),
    "knn": KNN(features, DOMAIN, k=4),
    "mahalanobis": fitted(DOMAIN, LABELS),
    "vim": ViM(features, DOMAIN, WEIGHT, BIAS, dimensions=2),
}


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("energy", [-4.379524, -5.767162, -4.521178, -3.892464]),
        ("knn", [1.087488, 1.106561, 0.764870, 0.548643]),
        ("vim", [-0.612271, 0.078017, 0.070910, -0.596193]),
    ],
)
def test_scores_are_those_of_pytorch_ood(name, scores):
    torch.testing.assert_close(DETECTORS[name].score(QUERIES), torch.tensor(scores), rtol=1e-5, atol=3e-6)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_image_has_its_own_score_whatever_its_batch(name):
    detector = DETECTORS[name]
    assert isinstance(detector, Detector)
    assert detector.evaluations == 0
    scores = detector.score(QUERIES)
    assert scores.dtype == torch.float32
    for i in range(4):
        torch.testing.assert_close(detector.score(QUERIES[i : i + 1]), scores[i : i + 1])
    torch.testing.assert_close(detector.score(QUERIES.flip(0)), scores.flip(0))


def test_the_energy_by_hand():
    table = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, -100.0, -100.0, -100.0], [1000.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([-1 - torch.tensor(4.0).log(), 0, -1000])
    torch.testing.assert_close(Energy(lambda images: table).score(torch.zeros(3, 1, 1, 1)), expected)


@pytest.mark.parametrize("k", [1, 5, 24])
def test_the_kth_neighbour_is_scikit_learns(k):
    vectors = [torch.nn.functional.normalize(features(x).double()).numpy() for x in (DOMAIN, QUERIES)]
    theirs = NearestNeighbors(n_neighbors=k).fit(vectors[0]).kneighbors(vectors[1])[0][:, -1]
    torch.testing.assert_close(KNN(features, DOMAIN, k).score(QUERIES), torch.from_numpy(theirs).float())


def test_the_nearest_neighbour_of_an_in_domain_image_is_itself_however_bright():
    detector = KNN(features, DOMAIN, k=1)
    assert detector.score(7 * DOMAIN).max() < 1e-6
    assert detector.score(-DOMAIN[:1]).item() > 0.1


def test_with_one_class_and_next_to_no_shrinkage_it_is_scikit_learns_mahalanobis_distance():
    theirs = (
        EmpiricalCovariance().fit(features(DOMAIN).double().numpy()).mahalanobis(features(QUERIES).double().numpy())
    )
    found = fitted(DOMAIN, torch.zeros(24, dtype=torch.long), 1e-9).score(QUERIES)
    torch.testing.assert_close(found, torch.from_numpy(theirs).sqrt().float())


def test_the_distance_to_the_nearest_class_by_hand():
    """Two classes 10 apart, of 8 and 4 images: deviations 1 and 3 along the axes, and 2 and 2."""
    counts = torch.tensor([8.0, 4.0, 0.0])
    own = [torch.tensor([1.0, 9.0]), torch.tensor([4.0, 4.0])]
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [3.0, 3.0]])  # of the third there is no image
    gaussians = ClassGaussians(counts, means, torch.stack([*map(torch.diag, own), torch.zeros(2, 2)]))
    shared = (8 * own[0] + 4 * own[1]) / 12
    # Drawn towards the mean covariance by 2 / (n + 2), n being 8 and 4; then half way towards a sphere.
    mixed = [0.8 * own[0] + 0.2 * shared, 2 / 3 * own[1] + 1 / 3 * shared]
    shrunk = [0.5 * of + 0.5 * of.mean() for of in mixed]
    places = torch.tensor([[0.0, 0.0], [2.0, 3.0], [9.0, 4.0]])
    expected = torch.tensor(
        [0.0, (4 / shrunk[0][0] + 9 / shrunk[0][1]) ** 0.5, (1 / shrunk[1][0] + 16 / shrunk[1][1]) ** 0.5]
    )
    found = Mahalanobis(features, gaussians, shrinkage=0.5).score(as_images(places))
    torch.testing.assert_close(found, expected)


def test_a_class_of_one_image_has_nearly_the_covariance_of_the_others():
    few = ClassGaussians(torch.tensor([1000.0, 1.0]), torch.tensor([[0.0], [10.0]]), torch.tensor([[[4.0]], [[0.0]]]))
    # 1 / (1 + 1) of the mean covariance, 4000 / 1001.
    expected = 1 / (0.5 * 4000 / 1001) ** 0.5
    assert Mahalanobis(features, few).score(as_images(torch.tensor([[9.0]]))).item() == pytest.approx(expected)


@pytest.mark.parametrize("counts", [[0.0, 0.0], [3.0, 2.0]])
def test_gaussians_of_no_images_or_of_images_that_do_not_vary_are_refused(counts):
    gaussians = ClassGaussians(torch.tensor(counts), torch.zeros(2, 3), torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="there are no images whose features vary"):
        Mahalanobis(features, gaussians)


def test_directions_have_a_mean_square_of_one():
    found = directions(features)(as_images(torch.tensor([[3.0, 4.0], [0.3, 0.4]])))
    torch.testing.assert_close(found, 2**0.5 * torch.tensor([[0.6, 0.8], [0.6, 0.8]]))


def test_the_virtual_logit_by_hand():
    """Features spread along the first axis only, but for 0.1 along the second: that is what is left over."""
    domain = as_images(torch.tensor([[4.0, 0.1], [-4.0, 0.1], [4.0, -0.1], [-4.0, -0.1]]))
    weight, bias = torch.eye(2), torch.zeros(2)
    detector = ViM(features, domain, weight, bias)
    # The largest logits are 4, 0.1, 4 and -0.1; the scale brings the mean residual of 0.1 to their mean of 2.
    queries = torch.tensor([[4.0, 0.0], [0.0, 3.0]])
    expected = torch.tensor([0.0, 20 * 3.0]) - queries.logsumexp(1)
    torch.testing.assert_close(detector.score(as_images(queries)), expected)


def test_the_usual_subspace_takes_half_of_the_dimensions_unless_told():
    half = ViM(features, DOMAIN, WEIGHT, BIAS).score(QUERIES)
    torch.testing.assert_close(half, ViM(features, DOMAIN, WEIGHT, BIAS, dimensions=3).score(QUERIES))


@pytest.mark.parametrize("k", [0, 25])
def test_a_neighbour_that_does_not_exist_is_refused(k):
    with pytest.raises(ValueError, match=f"k is {k}; with 24 in-domain images it lies between 1 and 24"):
        KNN(features, DOMAIN, k)


@pytest.mark.parametrize(("dimensions", "count"), [(6, 24), (-1, 24), (2, 0)])
def test_an_impossible_subspace_is_refused(dimensions, count):
    with pytest.raises(ValueError, match=f"dimensions is {dimensions}, with {count} .* features of 6 dimensions take"):
        ViM(features, DOMAIN[:count], WEIGHT, BIAS, dimensions)
