"""A release as an estimator of scikit-learn's form, which takes images in any form."""

from fedlmd.inference.estimator.estimator import ReleaseEstimator

__all__ = ["ReleaseEstimator"]
