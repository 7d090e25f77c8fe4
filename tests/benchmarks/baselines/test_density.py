"""Gaussian mixtures, against the closed form of one Gaussian and against scikit-learn."""

import sys

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture as Mixture

from benchmarks.baselines.density import GaussianMixture, MixtureConfig

ONE = MixtureConfig(components=(1,))


def correlated(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.5, 0.0], [-3.0, 1.0, 10.0]])
    return torch.randn(count, 3, generator=generator) @ mixing.T + torch.tensor([5.0, -1.0, 100.0])


def clusters(count, seed=0):
    """Three of them, far apart."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 30.0]])
    return centres[torch.arange(count) % 3] + torch.randn(count, 2, generator=generator)


def test_one_gaussian_has_its_closed_form():
    features, others = correlated(200), correlated(7, seed=1)
    mean, deviation = features.double().mean(0), features.double().std(0, correction=0)
    z, fitted_on = (others.double() - mean) / deviation, (features.double() - mean) / deviation
    covariance = fitted_on.T @ fitted_on / 200
    normal = torch.distributions.MultivariateNormal(torch.zeros(3).double(), covariance)
    found = GaussianMixture(features, ONE).negative_log_density(others)
    # scikit-learn adds 1e-6 to every variance.
    torch.testing.assert_close(found, -normal.log_prob(z).float(), atol=1e-3, rtol=1e-4)


def test_a_mixture_is_scikit_learns_on_standardised_features():
    features, others = clusters(90), clusters(6, seed=1)
    standard = [((x - features.mean(0)) / features.std(0, correction=0)).double().numpy() for x in (features, others)]
    theirs = Mixture(3, random_state=0).fit(standard[0]).score_samples(standard[1])
    ours = GaussianMixture(features, MixtureConfig(components=(3,))).negative_log_density(others)
    np.testing.assert_allclose(ours, -theirs, rtol=1e-4)


def test_held_out_likelihood_finds_the_number_of_clusters_and_the_kind_of_their_covariance():
    config = MixtureConfig(components=(1, 2, 3, 8), covariances=("full", "spherical"))
    chosen = GaussianMixture(clusters(300), config).mixture[-1]
    assert chosen.n_components == 3
    assert GaussianMixture(correlated(300), config).mixture[-1].covariance_type == "full"


def test_between_clusters_is_stranger_than_in_them_though_it_is_nearer_to_the_mean():
    density = GaussianMixture(clusters(300))
    found = density.negative_log_density(torch.tensor([[20.0, 0.0], [0.0, 30.0], [7.0, 10.0]]))
    assert found[2] > found[:2].max() + 10


def test_numbers_of_gaussians_that_a_fold_cannot_fit_are_left_out():
    features = clusters(12)
    assert GaussianMixture(features, MixtureConfig(components=(1, 10), folds=2)).mixture[-1].n_components == 1


def test_the_same_features_give_the_same_density():
    features = clusters(60)
    first, again = (GaussianMixture(features).negative_log_density(features) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(("count", "components"), [(9, (1,)), (0, (1,)), (20, (17,))])
def test_too_few_images_are_refused_with_how_many_it_takes(count, components):
    message = f"{count} in-domain images are too few .* {components[0]} or more Gaussians on 5 folds; give at least 2"
    with pytest.raises(ValueError, match=message):
        GaussianMixture(correlated(count), MixtureConfig(components=components))


def test_broken_features_are_refused():
    features = correlated(50)
    features[3, 1] = float("nan")
    with pytest.raises(ValueError, match="not finite; the network or its weights are broken"):
        GaussianMixture(features)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(ValueError, match=r"pip install 'fedlmd\[bench\]'"):
        GaussianMixture(correlated(50))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"components": ()}, "at least one number"),
        ({"components": (2, 0)}, "each 1 or more"),
        ({"covariances": ()}, "one or more of full, tied, diag, spherical"),
        ({"covariances": ("full", "round")}, "'round'.*; choose"),
        ({"folds": 1}, "folds is 1; at least 2"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MixtureConfig(**values)
