import math

import pytest
import torch

from benchmarks.baselines.factory import LazyDetector, MeasuredDetector, ReleaseScore, measured_detectors
from benchmarks.cost import image_cost
from fedlmd.data import load, some
from fedlmd.detection import MaxLogit
from fedlmd.release import VERDICT


@pytest.fixture(scope="module")
def digits():
    return some(load("mnist", "eval", labels=list("01234")), 12)


@pytest.fixture(scope="module")
def every(predictor, digits, cheap_baselines):
    return measured_detectors(predictor, digits, cheap_baselines)


def test_the_releases_own_scores_and_the_baselines_take_part(every, predictor):
    assert set(predictor.choices) < set(every)
    assert VERDICT in every
    assert {"energy", "one-step-plain", "lmd-paper", "msma", "diffpath", "ddpm-ood"} < set(every)
    assert {"knn", "mahalanobis", "vim"} < set(every)
    assert every["lmd-paper"].evaluations == 10_000
    assert every["lmd-paper"].tasks == ("01234",)
    assert every[VERDICT].sample is None


def test_nothing_takes_more_evaluations_than_it_says(every, predictor, digits):
    images = digits.images()
    for name, measured in every.items():
        if measured.evaluations < 1000:
            measured.detector.score(images[:1])  # fits what is fitted
            took = image_cost(
                predictor.networks, lambda measured=measured: measured.detector.score(images), len(images)
            ).evaluations
            assert took <= measured.evaluations, name
            assert (took > 0) == (measured.evaluations > 0), name


def test_every_score_is_one_finite_number_for_each_image(every, digits):
    for name, measured in every.items():
        if measured.evaluations < 1000:
            scores = measured.detector.score(digits.images())
            assert scores.shape == (12,), name
            assert torch.isfinite(scores).all(), name


def test_the_verdict_is_the_score_of_the_releases_predictions(every, predictor, digits):
    scores = [prediction.score for prediction in predictor.predict(digits.images())]
    assert every[VERDICT].detector.score(digits.images()).tolist() == pytest.approx(scores)


def test_detectors_with_other_settings_have_other_identities(predictor):
    logits = MaxLogit(predictor.networks.classifier)
    plain = MeasuredDetector(logits, 0)
    assert plain.identity == MeasuredDetector(logits, 0, sample=5).identity
    assert plain.identity != MeasuredDetector(logits, 0, settings="temperature 2").identity
    names = {MeasuredDetector(ReleaseScore(predictor, name), 0).identity for name in predictor.choices}
    assert len(names) == len(predictor.choices)


def test_a_lazy_detector_is_built_at_its_first_call_and_once():
    made = []

    def make():
        made.append(1)
        return MaxLogit(lambda images: images.flatten(1))

    lazy = LazyDetector(make, "settings")
    assert not made
    images = torch.full((2, 1, 2, 2), math.pi)
    assert lazy.score(images).tolist() == lazy.score(images).tolist() == pytest.approx([-math.pi] * 2)
    assert made == [1]
