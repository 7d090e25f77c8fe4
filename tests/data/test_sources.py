"""Where images come from: the shipped set, .npz files and folders, and how each error reads."""

import hashlib
import os
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataError, LabelledImages, label_names, load, split_held_back
from fedlmd.data.images import ImageError

NOTMNIST = Path(__file__).parents[3] / "shared" / "data" / "notmnist.npz"


def paint(path, value=255, size=(28, 28)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


@pytest.fixture
def flat(tmp_path):
    """Labels 2 and 10, with one image and two."""
    paint(tmp_path / "flat" / "10" / "10.png", 110)
    paint(tmp_path / "flat" / "10" / "9.bmp", 109)
    paint(tmp_path / "flat" / "2" / "a.png", 20)
    return tmp_path / "flat"


@pytest.fixture
def arrays(tmp_path):
    def save(**content):
        np.savez(tmp_path / "some.npz", **content)
        return str(tmp_path / "some.npz")

    return save


def images(count, *shape):
    return np.arange(count, dtype=np.uint8).reshape(count, *[1] * len(shape)) * np.ones(shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("key", "md5"),
    [
        ("x_train", "6bbc9ace898e44ae57da46a324031adb"),
        ("y_train", "a25bea736e30d166cdddb491f175f624"),
        ("x_test", "2646ac647ad5339dbf082846283269ea"),
        ("y_test", "27ae3e4e09519cfbb04c329615203637"),
    ],
)
def test_the_shipped_mnist_is_the_original_byte_for_byte(key, md5):
    folder = resources.files("fedlmd.data") / "mnist"
    with (folder / "mnist.npz").open("rb") as file:
        array = np.load(file, allow_pickle=False)[key]
    idx = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    assert hashlib.md5(idx).hexdigest() == md5
    assert md5 in (folder / "NOTICE.md").read_text()


def test_mnist_has_ten_digits_and_two_splits():
    train, evaluation = load("mnist", "train"), load("mnist", "eval")
    assert train.pixels.shape == (60_000, 1, 28, 28)
    assert evaluation.pixels.shape == (10_000, 1, 28, 28)
    assert train.names == evaluation.names == tuple("0123456789")
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


def test_labels_are_numbered_in_the_order_of_the_list():
    chosen = load("mnist", "eval", labels=["7", "2"])
    assert chosen.names == ("7", "2")
    assert chosen.labels.bincount().tolist() == [1028, 1032]
    assert chosen.labels[:2].tolist() == [0, 1]  # the first test digits are 7 and 2


def test_mnist_comes_in_any_size_and_in_colour():
    small = load("mnist", "eval", image_size=14, channels=3, labels=["1"])
    assert small.pixels.shape == (1135, 3, 14, 14)
    assert torch.equal(small.pixels[:, 0], small.pixels[:, 2])


@pytest.mark.skipif(not NOTMNIST.is_file(), reason="the notMNIST file is not here")
def test_notmnist_is_read_as_an_npz_source():
    loaded = load(NOTMNIST.name, "eval", root=NOTMNIST.parent)
    assert loaded.pixels.shape == (10_000, 1, 28, 28)
    assert len(loaded.names) == 10


def test_an_npz_without_splits_serves_both(arrays):
    source = arrays(x=images(3, 28, 28), y=np.array(["b", "a", "b"]))
    for split in ("train", "eval"):
        loaded = load(source, split)
        assert loaded.names == ("a", "b")
        assert loaded.labels.tolist() == [1, 0, 1]
        assert loaded.pixels[:, 0, 5, 5].tolist() == [0, 1, 2]


def test_an_npz_with_splits_numbers_the_labels_alike_in_both(arrays):
    source = arrays(
        x_train=images(2, 28, 28), y_train=np.array([10, 2]), x_test=images(2, 28, 28, 3), y_test=np.array([3, 10])
    )
    train, evaluation = load(source, "train"), load(source, "eval")
    assert train.names == evaluation.names == ("2", "3", "10")
    assert train.labels.tolist() == [2, 0]
    assert evaluation.labels.tolist() == [1, 2]
    assert evaluation.pixels[:, 0, 0, 0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": images(2, 28, 28)}, "it needs arrays x and y, or x_train.*; it has x$"),
        ({"x": np.zeros((2, 28, 28)), "y": np.arange(2)}, "must be uint8 .*, not float64"),
        ({"x": images(2, 28), "y": np.arange(2)}, r"must be \(N, H, W\).*not \(2, 28\)"),
        ({"x": images(2, 28, 28, 2), "y": np.arange(2)}, r"must be \(N, H, W\).*not \(2, 28, 28, 2\)"),
        ({"x": images(0, 28, 28), "y": np.arange(0)}, "not empty"),
        ({"x": images(2, 28, 28), "y": np.arange(3)}, "2 images but 3 labels"),
        ({"x": images(2, 28, 28), "y": np.zeros(2)}, "labels of .* must be whole numbers or strings .*float64"),
        ({"x": images(2, 28, 28), "y": np.zeros((2, 1), int)}, r"labels of .* must be .*\(2, 1\)"),
        ({"x": images(2, 28, 28), "y": np.array([{}, {}])}, "cannot be read .*allow_pickle=False"),
    ],
)
def test_arrays_of_a_wrong_form_are_named(arrays, content, message):
    source = arrays(**content)
    with pytest.raises(DataError, match=message) as caught:
        load(source, "train")
    assert "some.npz" in str(caught.value)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-40], lambda data: b"no archive at all"])
def test_a_corrupt_npz_is_named_in_the_error(arrays, damage):
    source = arrays(x=images(2, 28, 28), y=np.arange(2))
    Path(source).write_bytes(damage(Path(source).read_bytes()))
    with pytest.raises(DataError, match=r"some\.npz cannot be read as an \.npz file"):
        load(source, "train")


def test_a_single_array_under_the_name_of_an_npz_is_refused(tmp_path):
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, images(2, 28, 28))
    with pytest.raises(DataError, match="it holds a single array"):
        load(str(tmp_path / "one.npz"), "train")


def test_a_folder_without_splits_serves_both_with_labels_and_files_in_natural_order(flat):
    for split in ("train", "eval"):
        loaded = load(str(flat), split)
        assert loaded.names == ("2", "10")
        assert loaded.labels.tolist() == [0, 1, 1]
        assert loaded.pixels[:, 0, 0, 0].tolist() == [20, 109, 110]


def test_a_folder_with_splits_numbers_the_labels_alike_in_both(tmp_path):
    paint(tmp_path / "train" / "a" / "1.png", 1)
    paint(tmp_path / "train" / "b" / "1.png", 2)
    paint(tmp_path / "eval" / "b" / "1.png", 3)
    assert load(str(tmp_path), "train").labels.tolist() == [0, 1]
    evaluation = load(str(tmp_path), "eval")
    assert evaluation.names == ("a", "b")
    assert evaluation.labels.tolist() == [1]
    with pytest.raises(DataError, match="'a' has no eval image"):
        load(str(tmp_path), "eval", labels=["a"])


def test_the_label_names_of_a_split_are_known_without_decoding_an_image(tmp_path):
    for place in ("train/10/1.png", "train/9/1.png", "eval/9/1.png"):
        paint(tmp_path / place).write_bytes(b"broken")
    assert label_names(str(tmp_path), "train") == ("9", "10")
    assert label_names(tmp_path.name, "eval", root=tmp_path.parent) == ("9",)
    assert label_names("mnist", "eval") == tuple("0123456789")


def test_files_that_are_no_images_and_hidden_names_are_passed_over(flat):
    (flat / "2" / "notes.txt").write_text("not an image")
    (flat / "2" / ".hidden.png").write_text("not an image")
    (flat / ".cache").mkdir()
    (flat / "README.md").write_text("not a label")
    paint(flat / "2" / "UPPER.PNG", 21)
    assert load(str(flat), "train").labels.tolist() == [0, 0, 1, 1]


def test_only_the_files_of_the_chosen_labels_are_decoded(flat):
    (flat / "10" / "broken.png").write_bytes(b"broken")
    assert load(str(flat), "train", labels=["2"]).pixels[:, 0, 0, 0].tolist() == [20]


def test_images_of_another_size_are_fitted(flat):
    paint(flat / "2" / "large.png", 77, size=(90, 90))
    assert load(str(flat), "train", labels=["2"]).pixels[1].unique().tolist() == [77]


def test_a_corrupt_file_is_named_in_the_error(flat):
    file = flat / "10" / "9.bmp"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ImageError, match=r"flat/10/9\.bmp: the BMP image is truncated"):
        load(str(flat), "train")


def test_an_empty_label_folder_is_named_in_the_error(flat):
    (flat / "3").mkdir()
    with pytest.raises(DataError, match="flat/3 holds no image"):
        load(str(flat), "train")


def test_a_missing_split_is_named_in_the_error(tmp_path):
    paint(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(DataError, match="has train but no eval folder"):
        load(str(tmp_path), "eval")


def test_a_folder_without_labels_is_refused(tmp_path):
    paint(tmp_path / "loose.png")
    with pytest.raises(DataError, match="has no label folders"):
        load(str(tmp_path), "train")


@pytest.mark.parametrize("source", ["nowhere", "no/such/file.npz", "x" * 5000])
def test_a_missing_source_is_named_in_the_error(source):
    with pytest.raises(DataError, match=f"there is no data at '{source}'"):
        load(source, "train")


@pytest.mark.parametrize("source", ["", "a\0b"])
def test_what_can_be_no_path_is_refused(source):
    with pytest.raises(DataError, match="is no path"):
        load(source, "train")


@pytest.mark.parametrize("source", ["mnist", "folder"])
def test_an_unknown_label_is_answered_with_those_that_exist(source, flat):
    source, known = (source, "0, 1, 2") if source == "mnist" else (str(flat), "2, 10")
    with pytest.raises(DataError, match=f"no label 'seven'; there are {known}"):
        load(source, "eval", labels=["2", "seven"])


@pytest.mark.parametrize("labels", [[], ["2", "2"]])
def test_an_empty_or_repeated_choice_of_labels_is_refused(flat, labels):
    with pytest.raises(DataError, match=r"is empty|listed twice"):
        load(str(flat), "train", labels=labels)


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match="no split 'test'"):
        load("mnist", "test")


def test_paths_inside_the_data_root_are_read_relative_and_absolute(flat):
    for source in ("flat", "./other/../flat", str(flat)):
        assert len(load(source, "train", root=flat.parent)) == 3


def test_mnist_needs_no_data_root(tmp_path):
    assert len(load("mnist", "eval", root=tmp_path / "missing", labels=["3"])) == 1010


@pytest.mark.parametrize("source", ["..", "../flat", "inside/../../flat", "/etc", "absolute", "linked", "linked/flat"])
def test_a_source_outside_the_data_root_is_refused(flat, source):
    root = flat.parent / "root"
    (root / "inside").mkdir(parents=True)
    (root / "linked").symlink_to(flat.parent)
    source = str(flat) if source == "absolute" else source
    with pytest.raises(DataError, match="leads outside the data root"):
        load(source, "train", root=root)


@pytest.mark.parametrize("place", ["data/3", "data/2/secret.png", "data/train"])
def test_a_link_within_a_source_cannot_leave_the_data_root(tmp_path, flat, place):
    root = tmp_path / "root"
    paint(root / "data" / "2" / "a.png")
    target = flat / "2" / "a.png" if place.endswith(".png") else flat if place.endswith("train") else flat / "2"
    (root / place).symlink_to(target)
    assert len(load(str(root / "data"), "train")) >= 1  # without a root, links are the user's own affair
    with pytest.raises(DataError, match="leads outside the data root"):
        load("data", "train", root=root)


def test_links_that_stay_inside_the_data_root_are_followed(flat):
    (flat / "3").symlink_to(flat / "2")
    assert load("flat", "train", root=flat.parent).names == ("2", "3", "10")


def test_a_link_to_itself_is_no_data(tmp_path):
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(DataError, match="there is no data"):
        load("loop", "train", root=tmp_path)


def labelled(counts):
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    pixels = torch.arange(len(labels), dtype=torch.uint8).reshape(-1, 1, 1, 1)
    return LabelledImages(pixels, labels, tuple("abcdefgh"[: len(counts)]))


def test_each_label_is_held_back_in_proportion_and_no_image_is_lost():
    training, held = split_held_back(labelled([100, 50, 10]), 0.1, seed=3)
    assert training.labels.bincount().tolist() == [90, 45, 9]
    assert held.labels.bincount().tolist() == [10, 5, 1]
    assert sorted(torch.cat([training.pixels, held.pixels]).flatten().tolist()) == list(range(160))


def test_the_seed_decides_which_images_are_held_back():
    dataset = labelled([100])
    first, again, other = (split_held_back(dataset, 0.5, seed)[1].pixels for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_label_keeps_an_image_to_train_on():
    training, held = split_held_back(labelled([1, 2, 9]), 0.99, seed=0)
    assert training.labels.bincount().tolist() == [1, 1, 1]
    assert held.labels.bincount(minlength=3).tolist() == [0, 1, 8]


def test_nothing_is_held_back_at_zero():
    training, held = split_held_back(labelled([4]), 0.0, seed=0)
    assert (len(training), len(held)) == (4, 0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(DataError, match="must be 0 to below 1"):
        split_held_back(labelled([4]), fraction, seed=0)
