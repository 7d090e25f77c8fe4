"""Detectors on logits and features, by hand, against scikit-learn and against values of pytorch-ood 0.4.0."""

import pytest
import torch
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

from fedlmd.detection import Detector
from fedlmd.detection.feature_space import KNN, Energy, Mahalanobis, ViM, penultimate
from fedlmd.models import CNN, ClassifierConfig
from tests.diffusion.exact import digits


def table(rows, columns, shift):
    """Numbers that look drawn by chance and are not."""
    i = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)
    return torch.sin(1.7 * i + shift + 0.01 * i * i)


def as_images(vectors):
    return vectors.float()[:, :, None, None]


def features(images):
    """For images whose pixels are the features."""
    return images.flatten(1)


DOMAIN, LABELS = as_images(table(24, 6, 0.0)), torch.arange(24) % 3
QUERIES = as_images(1.5 * table(4, 6, 0.5))
WEIGHT, BIAS = table(3, 6, 0.25).float(), table(1, 3, 0.75)[0].float()
DETECTORS = {
    "energy": Energy(lambda images: features(images) @ WEIGHT.T + BIAS),
    "knn": KNN(features, DOMAIN, k=4),
    "mahalanobis": Mahalanobis(features, DOMAIN, LABELS),
    "vim": ViM(features, DOMAIN, WEIGHT, BIAS, dimensions=2),
}


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("energy", [-4.379524, -5.767162, -4.521178, -3.892464]),
        ("knn", [1.087488, 1.106561, 0.764870, 0.548643]),
        # Half the distance and a covariance that is not divided by the 24 images there: times 48 here.
        ("mahalanobis", [54.241493, 29.929390, 8.150842, 9.721968]),
        ("vim", [-0.612271, 0.078017, 0.070910, -0.596193]),
    ],
)
def test_scores_are_those_of_pytorch_ood(name, scores):
    # Its covariance has 1e-6 added to the diagonal and single precision.
    tolerance = {"rtol": 1e-3, "atol": 0} if name == "mahalanobis" else {"rtol": 1e-5, "atol": 3e-6}
    torch.testing.assert_close(DETECTORS[name].score(QUERIES), torch.tensor(scores), **tolerance)


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


def test_the_distance_to_the_nearest_class_by_hand():
    """Two classes 10 apart, each with deviations 1 and 2 and no correlation."""
    spread = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]]) * 2**0.5
    domain = as_images(torch.cat([spread, spread + torch.tensor([10.0, 0.0])]))
    detector = Mahalanobis(features, domain, torch.tensor([7] * 4 + [3] * 4))
    queries = as_images(torch.tensor([[0.0, 0.0], [10.0, 4.0], [3.0, 2.0], [6.0, 0.0]]))
    torch.testing.assert_close(detector.score(queries), torch.tensor([0.0, 4.0, 10.0, 16.0]))


def test_with_one_class_it_is_scikit_learns_mahalanobis_distance():
    theirs = (
        EmpiricalCovariance().fit(features(DOMAIN).double().numpy()).mahalanobis(features(QUERIES).double().numpy())
    )
    found = Mahalanobis(features, DOMAIN, torch.zeros(24, dtype=torch.long)).score(QUERIES)
    torch.testing.assert_close(found, torch.from_numpy(theirs).float())


def test_a_feature_that_never_varies_in_the_domain_does_not_count():
    padded = [torch.cat([x, torch.full_like(x[:, :1], value)], dim=1) for x, value in ((DOMAIN, 3.0), (QUERIES, -5.0))]
    found = Mahalanobis(features, padded[0], LABELS).score(padded[1])
    torch.testing.assert_close(found, DETECTORS["mahalanobis"].score(QUERIES))


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


def test_penultimate_features_are_what_the_head_of_the_classifier_sees():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CNN(ClassifierConfig(widths=(8, 16))).eval().requires_grad_(False)
    images, seen = digits(3)[0], []
    network.head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    network(images)
    # Where the classifier looks at several views of an image, the first is the image itself.
    torch.testing.assert_close(penultimate(network.maps)(images), seen[0][:3])


@pytest.mark.parametrize("k", [0, 25])
def test_a_neighbour_that_does_not_exist_is_refused(k):
    with pytest.raises(ValueError, match=f"k is {k}; with 24 in-domain images it lies between 1 and 24"):
        KNN(features, DOMAIN, k)


@pytest.mark.parametrize(("images", "labels"), [(24, 23), (0, 0)])
def test_one_label_per_image_is_needed(images, labels):
    with pytest.raises(ValueError, match=f"{images} in-domain images and {labels} labels; give one label per image"):
        Mahalanobis(features, DOMAIN[:images], LABELS[:labels])


@pytest.mark.parametrize(("dimensions", "count"), [(6, 24), (-1, 24), (2, 0)])
def test_an_impossible_subspace_is_refused(dimensions, count):
    with pytest.raises(ValueError, match=f"dimensions is {dimensions}, with {count} .* features of 6 dimensions take"):
        ViM(features, DOMAIN[:count], WEIGHT, BIAS, dimensions)
