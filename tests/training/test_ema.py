"""The moving average, in closed form and against torch's own."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fedlmd.training.ema import Average


def walk(average, values):
    """What the average holds after a one-weight model took these values."""
    model = nn.Linear(1, 1, bias=False)
    held = []
    for value in values:
        nn.init.constant_(model.weight, value)
        average.update(model)
        held.append(average.weights["weight"].item())
    return held


def start(decay):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, -100.0)
    return Average(model, decay)


def test_at_first_it_is_the_plain_mean_without_the_initial_weights():
    assert walk(start(0.9), [1.0, 2.0, 6.0, 7.0]) == pytest.approx([1.0, 1.5, 3.0, 4.0])


def test_later_it_falls_off_exponentially_as_torchs_does():
    torch.manual_seed(0)
    model, values = nn.Linear(3, 2), torch.randn(60, 2, 3)
    ours, theirs = Average(model, 0.9), None
    for step, value in enumerate(values, start=1):
        nn.init.zeros_(model.weight).data.add_(value)
        ours.update(model)
        if step == 10:  # the first ten are a plain mean: 9 / 10 is the decay
            theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
            theirs.module.weight.data.copy_(values[:10].mean(0))
            theirs.n_averaged += 1
        elif theirs:
            theirs.update_parameters(model)
    torch.testing.assert_close(ours.weights["weight"], theirs.module.weight.data)


def test_without_decay_it_is_the_last_value():
    assert walk(start(0.0), [1.0, 5.0, -2.0]) == [1.0, 5.0, -2.0]


def test_the_model_itself_is_left_alone():
    model = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.named_parameters()}
    average = Average(model, 0.5)
    average.update(model)
    average.weights["weight"].add_(1)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"ema decay is .*; it lies in \[0, 1\)"):
        Average(nn.Linear(1, 1), decay)
