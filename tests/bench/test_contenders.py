import math

import pytest
import torch

from fedlmd.answer import VERDICT
from fedlmd.bench.contenders import AnswererScore, Contender, Late, contenders
from fedlmd.bench.cost import spent
from fedlmd.data import load, some
from fedlmd.detection import MaxLogit


@pytest.fixture(scope="module")
def digits():
    return some(load("mnist", "eval", labels=list("01234")), 12)


@pytest.fixture(scope="module")
def every(answerer, digits):
    return contenders(answerer, digits)


def test_the_releases_own_scores_and_the_rivals_take_part(every, answerer):
    assert set(answerer.choices) < set(every)
    assert VERDICT in every
    assert {"energy", "one-step-plain", "lmd-paper", "msma", "diffpath", "ddpm-ood"} < set(every)
    assert {"knn", "mahalanobis", "vim"} < set(every)
    assert every["lmd-paper"].evaluations == 10_000
    assert every["lmd-paper"].tasks == ("01234",)
    assert every[VERDICT].sample is None


def test_nothing_takes_more_evaluations_than_it_says(every, answerer, digits):
    images = digits.images()
    for name, contender in every.items():
        if contender.evaluations < 1000:
            contender.detector.score(images[:1])  # fits what is fitted
            took = spent(answerer.networks, lambda of=contender: of.detector.score(images), len(images)).evaluations
            assert took <= contender.evaluations, name
            assert (took > 0) == (contender.evaluations > 0), name


def test_every_score_is_one_finite_number_for_each_image(every, digits):
    for name, contender in every.items():
        if contender.evaluations < 1000:
            scores = contender.detector.score(digits.images())
            assert scores.shape == (12,), name
            assert torch.isfinite(scores).all(), name


def test_the_verdict_is_what_the_release_answers_with(every, answerer, digits):
    told = [answer.score for answer in answerer.answer(digits.images())]
    assert every[VERDICT].detector.score(digits.images()).tolist() == pytest.approx(told)


def test_detectors_with_other_settings_are_told_apart(answerer):
    logits = MaxLogit(answerer.networks.classifier)
    plain = Contender(logits, 0)
    assert plain.identity == Contender(logits, 0, sample=5).identity
    assert plain.identity != Contender(logits, 0, settings="temperature 2").identity
    names = {Contender(AnswererScore(answerer, name), 0).identity for name in answerer.choices}
    assert len(names) == len(answerer.choices)


def test_a_late_detector_is_made_when_it_is_first_asked_and_once():
    made = []

    def make():
        made.append(1)
        return MaxLogit(lambda images: images.flatten(1))

    late = Late(make, "settings")
    assert not made
    images = torch.full((2, 1, 2, 2), math.pi)
    assert late.score(images).tolist() == late.score(images).tolist() == pytest.approx([-math.pi] * 2)
    assert made == [1]
