"""The optimiser loop on toy problems, its batches and its learning rate by value."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedlmd.training.loop import Step, TrainingConfig, batches, learning_rate, train
from fedlmd.training.objectives import Batch, classification

TOY = TrainingConfig(steps=30, batch_size=8, learning_rate=0.05, warmup=2, low_precision=False)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(count=40):
    """Dark and bright images of classes 0 and 1."""
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 100, (count, 1, 2, 2), generator=generator(), dtype=torch.uint8)
    return pixels + 150 * labels.to(torch.uint8)[:, None, None, None], labels


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 2))


def run(model, config=TOY, **span):
    pixels, labels = toy()
    return list(train(model, classification(), batches(pixels, labels, config, generator()), config, **span))


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_training_lowers_the_loss():
    model = network()
    steps = run(model)
    assert [step.step for step in steps] == list(range(1, 31))
    assert steps[-1].loss < steps[0].loss / 3
    assert not model.training


def test_training_is_reproducible_bit_for_bit():
    first, again = network(), network()
    assert run(first) == run(again)
    assert torch.equal(weights(first), weights(again))


def test_the_first_step_is_adams_by_hand():
    # Adam's first step is the learning rate against the gradient's sign; the decay shrinks the weights beside it.
    model, config = network(), replace(TOY, steps=1, warmup=0, learning_rate=0.01, weight_decay=0.1, ema=0.0)
    pixels, labels = toy()
    batch = next(batches(pixels, labels, config, generator()))
    before = weights(model)
    classification()(model, batch).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    (step,) = train(model, classification(), [batch], config)
    assert step.learning_rate == 0.01
    torch.testing.assert_close(weights(model), before * (1 - 0.001) - 0.01 * gradient.sign(), atol=1e-5, rtol=0)


def test_a_training_in_two_halves_takes_up_where_it_was():
    halves = network()
    first, second = run(halves, first=0, steps=12), run(halves, first=12, steps=18)
    assert [step.step for step in first + second] == list(range(1, 31))
    whole = run(network())
    # The same rates as in one piece, but for the rise at the second start.
    assert [s.learning_rate for s in first] == [s.learning_rate for s in whole[:12]]
    assert [s.learning_rate for s in second[2:]] == [s.learning_rate for s in whole[14:]]
    assert second[0].learning_rate == pytest.approx(whole[12].learning_rate / 3)
    assert second[-1].loss < first[0].loss / 3


@pytest.mark.parametrize(("span", "count"), [({"first": 25}, 5), ({"first": 25, "steps": 50}, 5), ({"steps": 3}, 3)])
def test_no_more_steps_are_done_than_the_whole_training_has(span, count):
    assert len(run(network(), **span)) == count


def test_no_steps_leave_the_weights_as_they_were():
    model = network()
    before = weights(model)
    assert run(model, steps=0) == []
    assert torch.equal(weights(model), before)


def test_it_stops_when_the_batches_run_out_and_leaves_the_next_batch_to_others():
    pixels, labels = toy()
    supply = itertools.islice(batches(pixels, labels, TOY, generator()), 5)
    assert len(list(train(network(), classification(), supply, TOY, steps=2))) == 2
    assert len(list(train(network(), classification(), supply, TOY))) == 3


def test_at_the_end_the_model_holds_the_mean_of_its_steps_and_stopped_early_those_of_the_last_step():
    config = replace(TOY, steps=5, ema=0.99)
    pixels, labels = toy()
    model = network()
    seen = []
    for _ in train(model, classification(), batches(pixels, labels, config, generator()), config):
        seen.append(weights(model))
    torch.testing.assert_close(weights(model), torch.stack(seen).mean(0), atol=1e-6, rtol=1e-5)

    stopped = network()
    steps = train(stopped, classification(), batches(pixels, labels, config, generator()), config)
    assert isinstance(next(steps), Step)
    next(steps)
    steps.close()
    assert torch.equal(weights(stopped), seen[1])


def test_long_gradients_are_shortened():
    moved = []
    for clip in (1e-9, 1.0):
        model = network()
        config = replace(TOY, steps=1, warmup=0, ema=0.0, clip=clip)
        before = weights(model)
        run(model, config)
        moved.append((weights(model) - before).abs().max().item())
    # Adam divides by the gradient's size, but for its epsilon of 1e-8, beside which a gradient of 1e-9 is small.
    assert moved[0] < moved[1] / 5


def test_the_learning_rate_rises_holds_and_falls_to_two_percent():
    config = TrainingConfig(steps=100, learning_rate=1.0, warmup=3, hold=0.5)
    rates = [learning_rate(config, step, step, 100) for step in range(100)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3:51] == [1.0] * 48
    assert rates[75] == pytest.approx(0.5)
    assert rates[51:] == sorted(rates[51:], reverse=True)
    assert rates[-1] == pytest.approx(0.02)
    assert learning_rate(config, 75, 0, 100) == pytest.approx(0.125)


def test_held_throughout_it_never_falls_before_the_last_step():
    config = TrainingConfig(steps=50, learning_rate=1.0, warmup=0, hold=1.0)
    assert [learning_rate(config, step, step, 50) for step in range(50)] == [1.0] * 50


def counted(count, channels=1):
    return torch.arange(count, dtype=torch.uint8).reshape(count, 1, 1, 1).repeat(1, channels, 3, 3), torch.arange(count)


def test_every_pass_shows_each_image_once_with_its_own_label_and_in_range():
    pixels, labels = counted(12)
    stream = batches(pixels, labels, TrainingConfig(batch_size=4), generator())
    passes = []
    for _ in range(2):
        shown = [next(stream) for _ in range(3)]
        order = torch.cat([batch.labels for batch in shown])
        assert sorted(order.tolist()) == list(range(12))
        for images, targets in shown:
            assert images.dtype == torch.float32
            torch.testing.assert_close(images[:, 0, 0, 0], targets / 127.5 - 1)
        passes.append(order.tolist())
    assert passes[0] != passes[1]


def test_batches_are_of_one_size_and_no_image_comes_twice_in_a_pass():
    pixels, labels = counted(10)
    stream = batches(pixels, labels, TrainingConfig(batch_size=4), generator())
    for _ in range(5):
        shown = torch.cat([next(stream).labels, next(stream).labels]).tolist()
        assert len(set(shown)) == len(shown) == 8


def test_fewer_images_than_a_batch_are_shown_all_at_once():
    pixels, labels = counted(3)
    for images, targets in itertools.islice(batches(pixels, labels, TrainingConfig(batch_size=64), generator()), 4):
        assert len(images) == 3
        assert sorted(targets.tolist()) == [0, 1, 2]


def test_a_batch_is_made_of_images_and_labels():
    batch = Batch(torch.zeros(2, 1, 3, 3), torch.tensor([0, 1]))
    assert batch.images.shape == (2, 1, 3, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": -1}, "steps is -1; it is 0 or more"),
        ({"batch_size": 0}, "batch_size is 0; it is 1 or more"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it is above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"clip": 0.0}, "clip is 0.0; it is above 0"),
        ({"weight_decay": -0.1}, "weight_decay is -0.1; it is 0 or more"),
        ({"warmup": -1}, "warmup is -1"),
        ({"hold": 1.5}, r"hold is 1.5; it lies in \[0, 1\]"),
        ({"label_dropout": -0.5}, "label_dropout is -0.5"),
        ({"ema": 1.0}, r"ema is 1.0; it lies in \[0, 1\)"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**values)
