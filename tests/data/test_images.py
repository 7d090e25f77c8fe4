"""The image contract."""

import numpy as np
import pytest
import torch

from fedlmd.data import DataError, LabelledImages, to_pixels, to_unit_range


def four_images():
    pixels = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 1, 2, 2).clone()
    return LabelledImages(pixels, torch.tensor([0, 1, 2, 1]), ("cat", "dog", "owl"))


def test_bytes_become_minus_one_to_one_and_every_byte_comes_back():
    every = torch.arange(256, dtype=torch.uint8)
    unit = to_unit_range(every)
    assert unit.dtype == torch.float32
    assert unit[[0, 255]].tolist() == [-1.0, 1.0]
    assert unit[51].item() == pytest.approx(-0.6)
    assert torch.equal(to_pixels(unit), every)


def test_values_outside_the_range_are_clipped_and_not_wrapped_around():
    assert to_pixels(torch.tensor([-7.0, -1.001, 1.001, 7.0])).tolist() == [0, 0, 255, 255]


def test_images_are_float_batches_of_all_or_of_the_wanted_positions():
    dataset = four_images()
    assert len(dataset) == 4
    assert dataset.images().shape == (4, 1, 2, 2)
    assert torch.equal(dataset.images([3, 0]), to_unit_range(dataset.pixels[[3, 0]]))
    assert torch.equal(dataset.images(np.array([2])), dataset.images(torch.tensor([2])))


def test_take_keeps_order_and_names():
    taken = four_images().take([3, 0])
    assert taken.pixels[:, 0, 0, 0].tolist() == [3, 0]
    assert taken.labels.tolist() == [1, 0]
    assert taken.names == ("cat", "dog", "owl")


def test_select_numbers_the_labels_in_the_order_of_the_list():
    chosen = four_images().select(["owl", "dog"])
    assert chosen.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert chosen.labels.tolist() == [1, 0, 1]
    assert chosen.names == ("owl", "dog")


def test_select_numbers_the_labels_by_the_names_that_are_given():
    chosen = four_images().select(["owl"], names=["ant", "cat", "owl"])
    assert chosen.labels.tolist() == [2]
    assert chosen.names == ("ant", "cat", "owl")


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["fox"], None, "no label 'fox'; there are cat, dog, owl"),
        ([], None, "choose at least one of cat, dog, owl"),
        (["cat", "cat"], None, "'cat' is listed twice"),
        (["cat"], ["dog"], "no label 'cat'; there are dog"),
    ],
)
def test_a_wrong_list_of_labels_is_refused_with_the_reason(labels, names, message):
    with pytest.raises(DataError, match=message):
        four_images().select(labels, names)


def test_a_label_without_an_image_is_named():
    with pytest.raises(DataError, match="'owl' has no image"):
        four_images().take([0, 1]).select(["cat", "owl"])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("pixels", "labels", "names", "message"),
    [
        (torch.zeros(1, 1, 2, 2), torch.tensor([0]), ("a",), "pixels must be uint8"),
        (torch.zeros(1, 2, 2, dtype=torch.uint8), torch.tensor([0]), ("a",), "pixels must be uint8"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0]), ("a",), r"labels must be int64 \(2,\)"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0.0]), ("a",), "labels must be int64"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([1]), ("a",), "labels must be 0 to 0"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0]), ("a", "a"), "each name may occur once"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(pixels, labels, names, message):
    with pytest.raises(DataError, match=message):
        LabelledImages(pixels, labels, names)
