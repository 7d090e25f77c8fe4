"""Which part of a source is for training, and which for evaluation."""

import pytest

from fedlmd.data import DataError
from fedlmd.data.layouts.splits import arranged, split_of


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("TRAIN ", "train"),
        ("test", "eval"),
        ("Testing", "eval"),
        ("eval", "eval"),
        ("Evaluation", "eval"),
        ("val", "val"),
        ("Validation", "val"),
        ("valid", "val"),
        ("dev", "val"),
        ("trains", None),
        ("cat", None),
        ("", None),
    ],
)
def test_the_name_of_a_part_says_its_split(name, split):
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"train": [1], "eval": [2]}, {"train": [1], "eval": [2]}),
        ({"train": [1], "val": [2]}, {"train": [1], "eval": [2]}),
        ({"train": [1], "val": [2], "eval": [3]}, {"train": [1, 2], "eval": [3]}),
        ({"val": [2], "eval": [3]}, {"train": [2], "eval": [3]}),
        ({"train": [1], "all": [2], "eval": [3]}, {"train": [1, 2], "eval": [3]}),
        ({"all": [2], "eval": [3]}, {"train": [2], "eval": [3]}),
        ({"train": [1]}, {"all": [1]}),
        ({"all": [1]}, {"all": [1]}),
        ({"train": [1], "eval": []}, {"all": [1]}),
        ({"all": [1, 2], "val": []}, {"all": [1, 2]}),
    ],
)
def test_every_image_is_either_for_training_or_for_evaluation(parts, expected):
    notes = []
    assert arranged("here", parts, lambda lists: [item for part in lists for item in part], notes) == expected
    moved = "val" in parts and "eval" in parts
    assert notes == (
        ["1 images of the validation part are taken for training; the test part evaluates"] if moved else []
    )


@pytest.mark.parametrize("parts", [{"eval": [1]}, {"val": [1]}, {"train": [], "eval": [1]}, {}])
def test_a_source_without_anything_to_train_on_is_refused(parts):
    with pytest.raises(DataError, match="here has a part to evaluate on but none to train on; add a part train"):
        arranged("here", parts, list, [])
