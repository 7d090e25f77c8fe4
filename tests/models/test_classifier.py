"""The classifier's shapes, and what federated averaging needs of it."""

import pytest
import torch
from torch import nn

from fedlmd.models import CNN, ClassifierConfig, turned


def build(**values):
    torch.manual_seed(0)
    return CNN(ClassifierConfig(**{"widths": (8, 16), **values})).eval()


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ({}, (3, 1, 28, 28)),
        ({"channels": 3, "classes": 4}, (3, 3, 28, 28)),
        ({"image_size": 30, "widths": (8, 8, 24), "patch": 3}, (1, 1, 30, 30)),
        ({"image_size": 8, "widths": (8,)}, (2, 1, 8, 8)),
    ],
)
def test_there_is_a_logit_for_every_image_and_class(values, shape):
    model = build(**values)
    assert model(torch.zeros(shape)).shape == (shape[0], model.config.classes)


def test_every_stage_gives_maps_of_half_the_resolution():
    maps = build(widths=(8, 16, 24)).maps(torch.zeros(2, 1, 28, 28))
    assert [tuple(stage.shape) for stage in maps] == [(2, 8, 14, 14), (2, 16, 7, 7), (2, 24, 4, 4)]


def cubic_mean(model, images):
    """The input of the head, from the last maps by hand; values of 0 and below count as 1e-4."""
    last = model.maps(images)[-1]
    return torch.where(last > 1e-4, last, torch.tensor(1e-4)).flatten(2).pow(3).mean(2).pow(1 / 3)


def test_with_one_view_the_logits_are_the_head_on_the_cubic_means_of_the_last_maps():
    model, images = build(views=1), torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(model(images), model.head(cubic_mean(model, images)))


def test_the_cubic_mean_lies_between_the_mean_and_the_maximum_over_positions():
    model, images = build(), torch.randn(4, 1, 28, 28)
    last = model.maps(images)[-1].clamp(min=1e-4)
    assert (model.pooled(images) >= last.mean((2, 3))).all()
    assert (model.pooled(images) <= last.amax((2, 3)) + 1e-6).all()


def test_an_image_without_any_feature_still_has_a_gradient():
    model = build(views=1)
    with torch.no_grad():
        model.stages[-1].norm2.weight.zero_()
        model.stages[-1].norm2.bias.zero_()
    model(torch.zeros(1, 1, 28, 28)).sum().backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.requires_grad)


def test_a_fixed_head_gives_each_label_and_view_a_direction_at_right_angles_to_all_others():
    head = build(classes=4).head
    torch.testing.assert_close(head.weight @ head.weight.T, torch.eye(16))
    assert not head.bias.any()
    assert not any(parameter.requires_grad for parameter in head.parameters())


def test_a_fixed_head_of_more_labels_than_dimensions_covers_all_dimensions_alike():
    head = build(classes=10).head
    torch.testing.assert_close(head.weight.T @ head.weight, torch.eye(16))


def test_a_learned_head_is_a_parameter_like_others():
    assert all(parameter.requires_grad for parameter in build(head="learned").parameters())


def test_the_embedding_is_the_input_of_the_head_for_every_view_in_turn():
    model, images = build(views=4), torch.randn(3, 1, 28, 28)
    by_hand = torch.cat([cubic_mean(model, turned(images, view)) for view in range(4)], dim=1)
    torch.testing.assert_close(model.embedding(images), by_hand)
    torch.testing.assert_close(model.logits(by_hand), model(images))


def test_a_labels_logit_is_the_mean_of_its_logits_in_every_view():
    model, images = build(views=4, classes=3), torch.randn(2, 1, 28, 28)
    heads = [model.head(cubic_mean(model, turned(images, view))) for view in range(4)]
    # The head's outputs are ordered by label, then view.
    by_hand = torch.stack([sum(heads[view][:, label * 4 + view] for view in range(4)) / 4 for label in range(3)], dim=1)
    torch.testing.assert_close(model(images), by_hand)


def test_the_views_are_the_quarter_turns():
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    views = [turned(image, view)[0, 0].tolist() for view in range(4)]
    assert views == [[[1, 2], [3, 4]], [[2, 4], [1, 3]], [[4, 3], [2, 1]], [[3, 1], [4, 2]]]


def test_an_images_logits_do_not_depend_on_its_batch():
    model, images = build(), torch.randn(5, 1, 28, 28)
    torch.testing.assert_close(model(images)[2:3], model(images[2:3]), atol=1e-5, rtol=1e-5)


def test_every_stored_value_is_a_trained_weight_so_that_all_of_it_averages():
    model = build()
    assert list(model.state_dict()) == [name for name, _ in model.named_parameters()]
    assert not list(model.buffers())


def test_the_only_normalisation_is_over_groups():
    kinds = {type(module) for module in build().modules() if "Norm" in type(module).__name__}
    assert kinds == {nn.GroupNorm}


def test_dropout_acts_in_training_alone():
    model, images = build(dropout=0.5), torch.randn(2, 1, 28, 28)
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": ()}, "one or more multiples of 8"),
        ({"widths": (8, 12)}, r"widths \(8, 12\) must be"),
        ({"widths": (0,)}, "multiples of 8"),
        ({"image_size": 27}, "image_size 27 must be a multiple of 2"),
        ({"classes": 1}, "classes is 1; it is 2 or more"),
        ({"views": 2}, "views is 2; it is 1 .* or 4"),
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_with_the_reason(values, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**values)
