import pytest
import torch

from fedlmd.data import load, some
from fedlmd.detection import separation
from fedlmd.inference import Predictor, Report, examine
from fedlmd.progress import drain
from fedlmd.release import PRETRAINED_FOLDER, VERDICT, load_release


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


def test_the_shipped_release_tells_the_digits_that_it_knows_from_those_that_it_does_not(predictor):
    known = load("mnist", "eval", labels=predictor.settings.labels)
    unknown = load("mnist", "eval", labels=["5", "6", "7", "8", "9"])
    scores = [predictor.scores(some(images, 100).images(), [VERDICT])[VERDICT] for images in (known, unknown)]
    assert separation(*scores).auroc > 0.98
