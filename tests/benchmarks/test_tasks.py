from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.tasks import SPLITS, TASKS, Task, available, images_of
from fedlmd.data import DataError, load

BY_NAME = {task.name: task for task in TASKS}


@pytest.fixture
def foreign(tmp_path):
    """A data set of three images, the second of one grey value, and one with a test split of known digits."""
    noise = np.random.default_rng(0).integers(0, 255, (3, 28, 28), dtype=np.uint8)
    noise[1] = 90
    np.savez(tmp_path / "fashion.npz", x=noise, y=np.array([5, 1, 7]))
    x, y = np.stack([noise[0]] * 12), np.array([*range(10), 3, 3])
    np.savez(tmp_path / "usps.npz", x_train=x[:2], y_train=y[:2], x_test=x, y_test=y)
    return {name: tmp_path / f"{name}.npz" for name in ("fashion", "usps")}


def test_the_five_splits_are_those_of_the_published_code():
    assert [set(known) for known in SPLITS] == [
        {"2", "4", "5", "9", "8", "3"},
        {"3", "2", "6", "9", "4", "0"},
        {"5", "8", "3", "2", "4", "6"},
        {"3", "7", "8", "4", "0", "5"},
        {"6", "3", "4", "9", "8", "2"},
    ]
    for i, known in enumerate(SPLITS):
        task = BY_NAME[f"mnist64-{i}"]
        assert set(task.labels) == set(known)
        assert set(task.labels) | set(task.unknown) == set("0123456789")
        assert len(task.unknown) == 4


def test_tasks_of_the_same_digits_share_a_release():
    assert {BY_NAME[name].release for name in ("fashion", "notmnist", "usps")} == {"digits-0-9"}
    assert BY_NAME["01234"].release == "digits-0-4"
    assert BY_NAME["0123-459"].release == "digits-0-3"
    assert BY_NAME["mnist64-0"].release == "digits-234589"
    # So that one release at a time is in memory, and none is trained twice.
    order = [task.release for task in TASKS]
    assert len(dict.fromkeys(order)) == 1 + sum(a != b for a, b in pairwise(order))


def test_digits_stand_against_digits_from_the_test_split_alone():
    known, unknown = images_of(BY_NAME["0123-459"], {})
    test = load("mnist", "eval")
    counts = torch.bincount(test.labels).tolist()
    assert torch.bincount(known.labels).tolist() == counts[:4]
    assert known.names == ("0", "1", "2", "3")
    assert unknown.names == ("4", "5", "9")
    assert len(unknown) == counts[4] + counts[5] + counts[9]


def test_indices_are_those_of_the_release():
    known, _ = images_of(BY_NAME["0123-459"], {}, labels=["3", "1", "2", "0"], sample=40)
    plain, _ = images_of(BY_NAME["0123-459"], {}, sample=40)
    assert torch.equal(known.pixels, plain.pixels)
    assert [known.names[i] for i in known.labels] == [plain.names[i] for i in plain.labels]
    with pytest.raises(ValueError, match="needs a release of 0, 1, 2, 3, not of 0, 1"):
        images_of(BY_NAME["0123-459"], {}, labels=["0", "1"])


def test_images_of_one_grey_value_are_dropped_from_other_data_sets(foreign):
    known, unknown = images_of(BY_NAME["fashion"], foreign)
    assert (len(known), len(unknown)) == (10_000, 2)
    assert unknown.pixels.flatten(1).float().std(1).min() > 0


def test_known_digits_in_another_hand_keep_their_classes(foreign):
    _, unknown = images_of(BY_NAME["usps"], foreign)
    assert unknown.names == tuple("0123456789")
    assert unknown.labels.tolist() == [*range(10), 3, 3]


def test_a_sample_is_a_fixed_draw_of_each_kind():
    first, second = (images_of(BY_NAME["01234"], {}, sample=30) for _ in range(2))
    assert [len(images) for images in first] == [30, 30]
    assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


def test_a_task_without_its_data_set_is_left_out_with_a_note(foreign):
    there, notes = available(foreign)
    assert [task.name for task in TASKS if task not in there] == ["notmnist"]
    assert len(notes) == 1
    assert "notmnist" in notes[0]
    with pytest.raises(DataError, match="needs the data set 'notmnist'"):
        images_of(BY_NAME["notmnist"], foreign)
    with pytest.raises(ValueError, match="no task has a data set 'cifar'; there are fashion, notmnist, usps"):
        available({"cifar": foreign["usps"]})


def test_a_task_needs_a_name_for_any_digits():
    assert Task("x", "x", ("1", "2", "3")).release == "digits-1-3"
    assert Task("x", "x", ("1", "3")).release == "digits-13"
