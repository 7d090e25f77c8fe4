"""The settings of detectors: what "auto" stands for, and the weights of a verdict."""

import pytest

from fedlmd.calibration import Moments
from fedlmd.detection import DetectorConfig
from fedlmd.detection.config import competence

SCALE = {name: Moments(10, 1.0, 2.0) for name in ("mahalanobis", "descriptor", "one-step", "thumbnail")}


def right(share):
    return Moments(10, share, 0.1)


def test_each_std_is_divided_by_its_scores_weight():
    scaled = DetectorConfig().chosen(latents=True, thumbnails=True).scaled(SCALE)
    assert {name: moments.std for name, moments in scaled.items()} == {
        "mahalanobis": 2.0,
        "descriptor": 8.0,
        "thumbnail": 1.0,
    }
    assert {moments.mean for moments in scaled.values()} == {1.0}


@pytest.mark.parametrize(
    ("classifier", "nearest", "share"),
    [(1.0, 1.0, 1.0), (0.9, 0.95, 1.0), (0.97, 0.89, 0.25), (0.9, 0.3, 0.04), (1.0, 0.0, (0.05 / 1.05) ** 2)],
)
def test_detectors_whose_gaussians_tell_labels_worse_weigh_less(classifier, nearest, share):
    assert competence(classifier, nearest) == pytest.approx(share)
    chosen, classified = DetectorConfig().chosen(latents=True, thumbnails=True), {"right": right(classifier)}
    scaled = chosen.scaled({**SCALE, **classified, "thumbnail-right": right(nearest)})
    assert scaled["thumbnail"].std == pytest.approx(1 / share)
    assert (scaled["mahalanobis"].std, scaled["descriptor"].std) == (2.0, 8.0)


@pytest.mark.parametrize(("classifier", "nearest"), [(7.0, 0.9), (0.9, -3.0), (-1.0, 2.0), (1.05, 1.05)])
def test_shares_that_no_honest_worker_sends_give_a_weight_within_its_bounds(classifier, nearest):
    assert 0 < competence(classifier, nearest) <= 1


def test_thumbnails_come_to_the_lists_that_nobody_gave():
    assert DetectorConfig().chosen(latents=True, thumbnails=True).calibrated[-1] == "thumbnail"
    assert "thumbnail" not in DetectorConfig().chosen(latents=True).calibrated
    given = DetectorConfig(verdict=("mahalanobis",)).chosen(latents=True, thumbnails=True)
    assert given.verdict == ("mahalanobis",)
    assert "thumbnail" in given.calibrated


def test_on_latents_scores_of_the_denoiser_use_the_gaussians_where_these_are_fitted_in_time():
    chosen = DetectorConfig().chosen(latents=True)
    assert (chosen.one_step.distance, chosen.lmd.distance) == ("mahalanobis", "mahalanobis")
    without = DetectorConfig().chosen(latents=True, gaussians=False)
    assert (without.one_step.distance, without.lmd.distance) == ("embedding", "embedding")
    assert without.one_step.levels == (0.5, 0.6, 0.7, 0.8)
    with pytest.raises(ValueError, match=r'distance of lmd is "mahalanobis".*take "embedding"'):
        chosen.chosen(latents=True, gaussians=False)
