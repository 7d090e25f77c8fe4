"""Mahalanobis distances by hand and against scikit-learn."""

import pytest
import torch
from sklearn.covariance import EmpiricalCovariance

from fedlmd.detection import Detector
from fedlmd.detection.mahalanobis import ClassGaussians, Mahalanobis, mahalanobis_distance


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
    counts = torch.tensor([len(members) for members in classes]).double()
    covariances = [torch.cov(members.T, correction=0) for members in classes]
    return Mahalanobis(
        features,
        ClassGaussians(counts, torch.stack([members.mean(0) for members in classes]), torch.stack(covariances)),
        shrinkage,
    )


DOMAIN, LABELS = as_images(table(24, 6, 0.0)), torch.arange(24) % 3
QUERIES = as_images(1.5 * table(4, 6, 0.5))


def test_an_image_has_its_own_score_whatever_its_batch():
    detector = fitted(DOMAIN, LABELS)
    assert isinstance(detector, Detector)
    scores = detector.score(QUERIES)
    assert scores.dtype == torch.float32
    for i in range(4):
        torch.testing.assert_close(detector.score(QUERIES[i : i + 1]), scores[i : i + 1])
    torch.testing.assert_close(detector.score(QUERIES.flip(0)), scores.flip(0))


def test_with_one_class_and_next_to_no_shrinkage_it_is_scikit_learns_mahalanobis_distance():
    theirs = (
        EmpiricalCovariance().fit(features(DOMAIN).double().numpy()).mahalanobis(features(QUERIES).double().numpy())
    )
    scores = fitted(DOMAIN, torch.zeros(24, dtype=torch.long), 1e-9).score(QUERIES)
    torch.testing.assert_close(scores, torch.from_numpy(theirs).sqrt().float())


def test_the_distance_to_the_nearest_class_by_hand():
    """Two classes 10 apart, of 8 and 4 images: standard deviations 1 and 3 along the axes, and 2 and 2."""
    counts = torch.tensor([8.0, 4.0, 0.0])
    own = [torch.tensor([1.0, 9.0]), torch.tensor([4.0, 4.0])]
    means = torch.tensor([[0.0, 0.0], [10.0, 0.0], [3.0, 3.0]])  # of the third there is no image
    gaussians = ClassGaussians(counts, means, torch.stack([*map(torch.diag, own), torch.zeros(2, 2)]))
    shared = (8 * own[0] + 4 * own[1]) / 12
    # Drawn towards the mean covariance by 2 / (n + 2), n being 8 and 4; then half way towards a sphere.
    mixed = [0.8 * own[0] + 0.2 * shared, 2 / 3 * own[1] + 1 / 3 * shared]
    shrunk = [0.5 * diagonal + 0.5 * diagonal.mean() for diagonal in mixed]
    places = torch.tensor([[0.0, 0.0], [2.0, 3.0], [9.0, 4.0]])
    expected = torch.tensor(
        [0.0, (4 / shrunk[0][0] + 9 / shrunk[0][1]) ** 0.5, (1 / shrunk[1][0] + 16 / shrunk[1][1]) ** 0.5]
    )
    scores = Mahalanobis(features, gaussians, shrinkage=0.5).score(as_images(places))
    torch.testing.assert_close(scores, expected)


def test_a_class_of_one_image_has_nearly_the_covariance_of_the_others():
    few = ClassGaussians(torch.tensor([1000.0, 1.0]), torch.tensor([[0.0], [10.0]]), torch.tensor([[[4.0]], [[0.0]]]))
    # 1 / (1 + 1) of the mean covariance, 4000 / 1001.
    expected = 1 / (0.5 * 4000 / 1001) ** 0.5
    assert Mahalanobis(features, few).score(as_images(torch.tensor([[9.0]]))).item() == pytest.approx(expected)


def test_gaussians_of_no_images_are_refused():
    gaussians = ClassGaussians(torch.zeros(2), torch.zeros(2, 3), torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="there are no images"):
        Mahalanobis(features, gaussians)


def test_images_that_are_all_alike_have_the_score_0_and_others_a_finite_one():
    gaussians = ClassGaussians(torch.tensor([3.0]), torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2, 2))
    same, other = Mahalanobis(features, gaussians).score(as_images(torch.tensor([[2.0, 0.0], [2.0, 1.0]])))
    assert same == 0
    # The variance is a tenth of a millionth of the mean square 2.
    assert other.item() == pytest.approx((1 / (0.1 * 1e-6 * 2)) ** 0.5)


def test_the_distance_of_two_images_is_by_the_covariance_of_the_class_nearest_to_the_first():
    detector = fitted(DOMAIN, LABELS)
    distances = mahalanobis_distance(detector)(QUERIES, DOMAIN[:4])
    for query, other, distance in zip(QUERIES, DOMAIN, distances, strict=False):
        squares = [
            (offset @ precision @ offset).item()
            for mean, precision in zip(detector.means, detector.precisions, strict=True)
            for offset in [features(query[None])[0].double() - mean]
        ]
        nearest = detector.precisions[squares.index(min(squares))]
        offset = (features(query[None]) - features(other[None]))[0].double()
        assert distance.item() == pytest.approx((offset @ nearest @ offset).item(), rel=1e-5)
    assert mahalanobis_distance(detector)(QUERIES, QUERIES).max() < 1e-9


def test_the_nearest_class_is_that_with_the_smallest_distance_among_those_with_images():
    means = torch.tensor([[0.0, 0.0], [5.0, 0.0], [9.0, 9.0], [0.0, 5.0]])
    gaussians = ClassGaussians(torch.tensor([9.0, 0.0, 9.0, 9.0]), means, torch.eye(2).expand(4, 2, 2))
    images = as_images(torch.tensor([[1.0, 1.0], [0.5, 4.0], [5.0, 0.5], [8.0, 8.0]]))
    assert Mahalanobis(features, gaussians).nearest(images).tolist() == [0, 3, 0, 2]
