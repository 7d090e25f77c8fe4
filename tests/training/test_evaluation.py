"""Judging a classifier, by hand."""

import math

import pytest
import torch
from torch import nn

from fedlmd.data import LabelledImages
from fedlmd.training import evaluate, evaluate_images


class Brightness(nn.Module):
    """Says class 1 of a bright image, with logit 1, and class 0 of a dark one."""

    def forward(self, images):
        level = images.mean((1, 2, 3))
        return torch.stack([-level, level], 1) / 2


def dataset(levels, labels):
    pixels = torch.tensor(levels, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return LabelledImages(pixels.clone(), torch.tensor(labels), ("dark", "bright"))


def test_every_image_is_judged_by_hand():
    evaluated = evaluate_images(Brightness(), dataset([0, 255, 255], [0, 1, 0]))
    sure, wrong = math.log1p(math.exp(-1)), math.log1p(math.e)
    assert evaluated.accuracy.tolist() == [1, 1, 0]
    assert evaluated.loss.tolist() == pytest.approx([sure, sure, wrong])


def test_an_evaluation_is_the_mean_of_the_judgements():
    sure, wrong = math.log1p(math.exp(-1)), math.log1p(math.e)
    evaluation = evaluate(Brightness(), dataset([0, 255, 255, 0], [0, 1, 0, 0]))
    assert (evaluation.accuracy, evaluation.images) == (0.75, 4)
    assert evaluation.loss == pytest.approx((3 * sure + wrong) / 4)


def test_the_size_of_the_batches_does_not_matter():
    data = dataset(list(range(0, 250, 10)), [0, 1, 1, 0, 1] * 5)
    whole, pieces = evaluate_images(Brightness(), data), evaluate_images(Brightness(), data, batch_size=4)
    assert torch.equal(whole.accuracy, pieces.accuracy)
    torch.testing.assert_close(whole.loss, pieces.loss)
