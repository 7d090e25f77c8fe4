import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from fedlmd.calibration import check_scores
from fedlmd.data import DataError, load, some
from fedlmd.detection import separation
from fedlmd.inference import Predictor, Report, examine, known_source
from fedlmd.progress import drain
from fedlmd.release import PRETRAINED_FOLDER, VERDICT, Release, load_release


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_release(PRETRAINED_FOLDER))


def test_some_images_are_a_fixed_draw_without_repeats():
    digits = load("mnist", "eval", labels=["3", "4"])
    assert torch.equal(some(digits, 50, 7).pixels, some(digits, 50, 7).pixels)
    assert not torch.equal(some(digits, 50, 7).pixels, some(digits, 50, 8).pixels)
    assert len(some(digits, 10**6)) == len(digits)


def test_a_report_holds_what_the_scores_say(predictor):
    known = some(load("mnist", "eval", labels=predictor.settings.labels), 60)
    unknown = some(load("mnist", "eval", labels=["5", "6", "7", "8", "9"]), 60, seed=1)
    steps = []
    report = drain(examine(predictor, known, unknown, most=8, batch_size=3), steps.append)
    assert isinstance(report, Report)
    assert [(step.done, step.total) for step in steps] == [(i, 6) for i in range(1, 7)]
    assert (report.known, report.unknown, report.classification.images) == (8, 8, 60)
    inside, outside = (predictor.scores(some(images, 8).images(), [VERDICT])[VERDICT] for images in (known, unknown))
    assert report.separations[VERDICT].auroc == pytest.approx(separation(inside, outside).auroc, abs=1e-6)
    threshold = predictor.references[VERDICT].threshold(predictor.alpha)
    assert report.false_alarm_rate == pytest.approx(float((inside > threshold).float().mean()))
    assert report.detection_rate == pytest.approx(float((outside > threshold).float().mean()))
    assert report.promise == check_scores(predictor.references[VERDICT], predictor.alpha, inside.numpy())
    assert report.promise.rate == pytest.approx(report.false_alarm_rate)


def test_images_drawn_otherwise_break_the_promise_of_the_shipped_release_and_its_own_do_not(predictor):
    digits = some(load("mnist", "eval", labels=predictor.settings.labels), 40)
    unknown = some(load("mnist", "eval", labels=["5", "6"]), 4)
    kept = drain(examine(predictor, digits, unknown)).promise
    assert (kept.images, kept.kept, kept.expected) == (40, True, 0.05)
    brightened = replace(digits, pixels=128 + digits.pixels // 2)
    broken = drain(examine(predictor, brightened, unknown)).promise
    assert not broken.kept
    assert broken.rate > broken.high
    assert "drawn otherwise" in broken.sentence


def test_a_release_whose_calibration_is_too_small_for_its_alpha_has_a_report_of_numbers_alone(predictor):
    card = json.loads(json.dumps(predictor.release.card))
    card["calibration"]["alpha"] = 1e-6
    del card["self_test"]
    strict = Predictor(Release("x", card, predictor.release.weights))
    assert strict.references[VERDICT].threshold(strict.alpha) == math.inf
    digits = some(load("mnist", "eval", labels=strict.settings.labels), 4)
    report = drain(examine(strict, digits, digits))
    assert "Infinity" not in json.dumps(asdict(report), allow_nan=False)
    assert (report.false_alarm_rate, report.detection_rate, report.promise.high) == (0.0, 0.0, 0.0)
    prediction = strict.predict(digits.images()[:1])[0]
    assert prediction.threshold is None
    json.dumps(asdict(prediction), allow_nan=False)


def test_a_release_says_where_its_known_images_are(predictor):
    assert known_source(predictor.release.card) == "mnist"


@pytest.mark.parametrize(
    "card", [{}, {"settings": {}}, {"settings": {"data": {}}}, {"settings": {"data": {"source": None}}}]
)
def test_a_federated_release_that_does_not_say_where_its_images_are_asks_for_a_source(card):
    with pytest.raises(DataError, match="does not say where its images are; give --source"):
        known_source(card)


def test_the_shipped_release_tells_the_digits_that_it_knows_from_those_that_it_does_not(predictor):
    known = load("mnist", "eval", labels=predictor.settings.labels)
    unknown = load("mnist", "eval", labels=["5", "6", "7", "8", "9"])
    scores = [predictor.scores(some(images, 100).images(), [VERDICT])[VERDICT] for images in (known, unknown)]
    assert separation(*scores).auroc > 0.98
