import torch
from PIL import Image

from fedlmd.cli.demo import SETTINGS, draw, figures_of
from fedlmd.data import load
from fedlmd.detection import separation
from fedlmd.inference import Predictor, Report
from fedlmd.release import PRETRAINED_FOLDER, load_release
from fedlmd.settings import read
from fedlmd.training import Evaluation


def test_the_demos_workers_hold_different_lists_of_the_digits_learnt():
    settings = read(SETTINGS)
    lists = settings.data.partition.lists
    assert lists == (("0", "1", "2", "3"), ("0", "1", "2", "4"))
    assert {label for listed in lists for label in listed} == set(settings.labels)


def test_the_picture_shows_one_known_and_two_unknown_digits(tmp_path):
    predictor = Predictor(load_release(PRETRAINED_FOLDER))
    known, unknown = (load("mnist", "eval", labels=labels) for labels in (["0", "1", "2", "3", "4"], ["7", "9"]))
    with Image.open(draw(predictor, known, unknown, tmp_path / "demo.png")) as picture:
        assert picture.width > 800
        assert picture.height > picture.width / 2


def test_the_figures_are_those_of_the_report():
    apart = separation(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 2.0]))
    names = ("verdict", "lmd", "one-step", "max-logit")
    report = Report(Evaluation(0.99, 0.1, 10), 2, 2, 0.05, 0.04, 0.8, dict.fromkeys(names, apart))
    figures = figures_of(report, "abc", 10.0, 20.0, 100.4)
    assert figures["auroc"] == figures["auroc_lmd"] == 0.75
    assert (figures["accuracy"], figures["false_alarm_rate"], figures["alpha"]) == (0.99, 0.04, 0.05)
    assert (figures["seconds"], figures["peak_rss_mib"]) == (20.0, 100)
