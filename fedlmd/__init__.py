"""Federated image classification that knows what it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from os import PathLike

    from fedlmd.inference.estimator import ReleaseEstimator
    from fedlmd.release import Release

__all__ = ["load"]


def load(
    release: str | PathLike[str] | Release = "pretrained",
    *,
    alpha: float | None = None,
    detector: str = "verdict",
    worker: str | None = None,
) -> ReleaseEstimator:
    """A release as an estimator with scikit-learn's methods, see ``fedlmd.inference.estimator.ReleaseEstimator``.

    Args:
        release: a release's folder, the name of a shipped one ("digits-0-4", "digits-0-9"), or a release in memory.
        alpha: share of known images that may be called unknown, in (0, 1); None for the release's.
        detector: name of the score that decides; "verdict" is the fused one.
        worker: name of the worker whose calibration counts; all workers' without it.

    Raises:
        ReleaseError: the release cannot be loaded.
        ValueError: the release has no such detector or worker, or alpha is out of (0, 1).
    """
    from fedlmd.inference.estimator import ReleaseEstimator  # noqa: PLC0415 - importing fedlmd imports nothing else

    return ReleaseEstimator(release, alpha=alpha, detector=detector, worker=worker)
