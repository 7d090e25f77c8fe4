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
        "descriptor": 4.0,
        "one-step": 4.0,
        "thumbnail": pytest.approx(2 / 1.5),
    }
    assert {moments.mean for moments in scaled.values()} == {1.0}


@pytest.mark.parametrize(
    ("classifier", "thumbnail", "share"),
    [(1.0, 1.0, 1.0), (0.9, 0.95, 1.0), (0.98, 0.94, 0.5), (0.9, 0.42, 0.2), (1.0, 0.0, 0.02 / 1.02)],
)
def test_thumbnails_that_tell_labels_worse_weigh_less(classifier, thumbnail, share):
    assert competence(classifier, thumbnail) == pytest.approx(share)
    scale = {**SCALE, "right": right(classifier), "thumbnail-right": right(thumbnail)}
    scaled = DetectorConfig().chosen(latents=True, thumbnails=True).scaled(scale)
    assert scaled["thumbnail"].std == pytest.approx(2 / (1.5 * share))
    assert scaled["mahalanobis"].std == 2.0


def test_thumbnails_come_to_the_lists_that_nobody_gave():
    assert DetectorConfig().chosen(latents=True, thumbnails=True).calibrated[-1] == "thumbnail"
    assert "thumbnail" not in DetectorConfig().chosen(latents=True).calibrated
    given = DetectorConfig(verdict=("mahalanobis",)).chosen(latents=True, thumbnails=True)
    assert given.verdict == ("mahalanobis",)
    assert "thumbnail" in given.calibrated
