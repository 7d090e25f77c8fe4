"""Density of in-domain features: the last step of detectors that describe an image by a few numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final, get_args

import torch
from jaxtyping import Float
from torch import Tensor

CovarianceKind = Literal["full", "tied", "diag", "spherical"]


@dataclass(frozen=True)
class MixtureConfig:
    """Which mixtures are tried; the one with the highest held-out likelihood is taken.

    Args:
        components: numbers of Gaussians to try, each 1 or more; a number that the folds have too few images for is
            left out.
        covariances: kinds of covariance to try.
        folds: parts that cross-validation splits the features into, 2 or more.
        seed: of the starting points of expectation maximisation.
    """

    components: tuple[int, ...] = (1, 2, 4, 8, 16)
    covariances: tuple[CovarianceKind, ...] = ("full",)
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values out of range, with the range."""
        if not self.components or min(self.components) < 1:
            raise ValueError(f"components is {self.components}; give at least one number, each 1 or more")
        if not self.covariances or not set(self.covariances) <= set(get_args(CovarianceKind)):
            raise ValueError(
                f"covariances is {self.covariances}; choose one or more of {', '.join(get_args(CovarianceKind))}"
            )
        if self.folds < 2:
            raise ValueError(f"folds is {self.folds}; at least 2 are needed")


@final
class GaussianMixture:
    """A Gaussian mixture on standardised features, fitted by expectation maximisation.

    Number and kind of the Gaussians are chosen by cross-validation on the in-domain features alone, as by the authors
    of MSMA and of DiffPath. The fit is scikit-learn's, from the extra ``bench``.

    Args:
        features: of in-domain images, (N, D).
        config: the mixtures to choose from.

    Raises:
        ValueError: when scikit-learn is missing, features are not finite, or there are too few of them.
    """

    def __init__(self, features: Float[Tensor, "n d"], config: MixtureConfig | None = None) -> None:
        self.config = config or MixtureConfig()
        if not features.isfinite().all():
            raise ValueError("a feature of an in-domain image is not finite; the network or its weights are broken")
        fitted_on = len(features) * (self.config.folds - 1) // self.config.folds
        allowed = [count for count in self.config.components if count <= fitted_on]
        if len(features) < 2 * self.config.folds or not allowed:
            raise ValueError(
                f"{len(features)} in-domain images are too few for a mixture of {min(self.config.components)} or more "
                f"Gaussians on {self.config.folds} folds; give at least 2 per fold and 1 per Gaussian"
            )
        self.mixture = fitted(features, self.config, allowed)

    def negative_log_density(self, features: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Minus the log density of standardised features; higher is further from the in-domain features."""
        log_density = torch.from_numpy(self.mixture.score_samples(features.double().cpu().numpy()))
        return -log_density.float().to(features.device)


def fitted(features: Float[Tensor, "n d"], config: MixtureConfig, components: list[int]) -> Any:  # noqa: ANN401 - untyped
    """The best mixture of the given numbers of Gaussians, as a pipeline of scikit-learn."""
    try:
        from sklearn.mixture import GaussianMixture as Mixture  # noqa: PLC0415 - an optional extra
        from sklearn.model_selection import GridSearchCV  # noqa: PLC0415
        from sklearn.pipeline import make_pipeline  # noqa: PLC0415
        from sklearn.preprocessing import StandardScaler  # noqa: PLC0415
    except ImportError:
        raise ValueError("a Gaussian mixture needs the extra: pip install 'fedlmd[bench]'") from None
    pipeline = make_pipeline(StandardScaler(), Mixture(max_iter=200, random_state=config.seed))
    choices = {
        "gaussianmixture__n_components": components,
        "gaussianmixture__covariance_type": list(config.covariances),
    }
    with unconverged_fits_allowed():
        search = GridSearchCV(pipeline, choices, cv=config.folds).fit(features.double().cpu().numpy())
    return search.best_estimator_


@contextmanager
def unconverged_fits_allowed() -> Iterator[None]:
    """Ignore that a mixture has not converged: it is compared by its held-out likelihood like any other."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - an optional extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
