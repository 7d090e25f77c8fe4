"""The energy by hand, and against values of pytorch-ood 0.4.0."""

import pytest
import torch

from fedlmd.detection.energy import Energy


def table(rows, columns, shift):
    """Numbers that look drawn by chance and are not."""
    i = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)
    return torch.sin(1.7 * i + shift + 0.01 * i * i)


def test_scores_are_those_of_pytorch_ood():
    weight, bias = table(3, 6, 0.25).float(), table(1, 3, 0.75)[0].float()
    detector = Energy(lambda images: images.flatten(1) @ weight.T + bias)
    queries = 1.5 * table(4, 6, 0.5).float()[:, :, None, None]
    assert detector.score(queries).tolist() == pytest.approx([-4.379524, -5.767162, -4.521178, -3.892464], abs=1e-5)


def test_the_energy_by_hand():
    table = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, -100.0, -100.0, -100.0], [1000.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([-1 - torch.tensor(4.0).log(), 0, -1000])
    torch.testing.assert_close(Energy(lambda images: table).score(torch.zeros(3, 1, 1, 1)), expected)
