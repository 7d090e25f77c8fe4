"""Where images come from: the shipped set, .npz files and folders, and how each error reads."""

import hashlib
import os
import struct
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from fedlmd.data import DataConfig, DataError, LabelledImages, PixelRules, label_names, load, scan, split_held_back
from fedlmd.data.sources import evaluation_split
from tests.data.samples import both, content, shades, tree

NOTMNIST = Path(__file__).parents[3] / "shared" / "data" / "notmnist.npz"


@pytest.fixture
def flat(tmp_path):
    """Labels 2 and 10, with two images and three."""
    files = {"10/10.png": 110, "10/9.bmp": 109, "10/11.png": 111, "2/a.png": 20, "2/b.png": 21}
    return tree(tmp_path / "flat", files)


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
    small = load("mnist", "eval", rules=PixelRules(14, 3), labels=["1"])
    assert small.pixels.shape == (1135, 3, 14, 14)
    assert torch.equal(small.pixels[:, 0], small.pixels[:, 2])


@pytest.mark.skipif(not NOTMNIST.is_file(), reason="the notMNIST file is not here")
def test_notmnist_is_read_as_an_npz_source():
    loaded = load(NOTMNIST.name, "all", root=NOTMNIST.parent)
    assert loaded.pixels.shape == (10_000, 1, 28, 28)
    assert len(loaded.names) == 10


def test_all_of_a_source_is_both_of_its_parts():
    digits = load("mnist", "all", labels=["3", "1"])
    train, evaluation = (load("mnist", split, labels=["3", "1"]) for split in ("train", "eval"))
    assert torch.equal(digits.pixels, torch.cat([train.pixels, evaluation.pixels]))
    assert torch.equal(digits.labels, torch.cat([train.labels, evaluation.labels]))
    assert digits.names == ("3", "1")


def test_a_catalogue_of_the_shipped_set_has_its_images():
    catalogue = scan("mnist")
    assert catalogue.divided
    assert catalogue.labels == tuple("0123456789")
    part = catalogue.part("eval", 0.2)
    assert np.array_equal(part.raw(7)[..., 0], load("mnist", "eval").pixels[7, 0].numpy())


def test_the_share_for_evaluation_is_a_setting(flat):
    tree(flat, {f"2/{number}.png": number for number in range(18)})
    train, held = both(flat, config=DataConfig(evaluation=0.5))
    assert (len(train["2"]), len(held["2"])) == (10, 10)
    train, held = both(flat)
    assert (len(train["2"]), len(held["2"])) == (16, 4)


def test_a_label_of_one_image_is_trained_on_and_not_evaluated(flat):
    tree(flat, {"3/1.png": 1})
    assert label_names(str(flat), "train") == ("2", "3", "10")
    assert label_names(str(flat), "eval") == ("2", "10")
    assert label_names(str(flat), "all") == ("2", "3", "10")


def test_labels_of_one_image_each_cannot_be_evaluated(tmp_path):
    tree(tmp_path, {"a/1.png": 1, "b/1.png": 2})
    assert len(load(str(tmp_path), "train")) == 2
    with pytest.raises(DataError, match="has one image of each label and so none to evaluate on; add images"):
        load(str(tmp_path), "eval")


def test_the_label_names_of_a_split_are_known_without_decoding_an_image(tmp_path):
    tree(tmp_path, dict.fromkeys(("train/10/1.png", "train/9/1.png", "eval/9/1.png"), b"broken"))
    assert label_names(str(tmp_path), "train") == ("9", "10")
    assert label_names(tmp_path.name, "eval", root=tmp_path.parent) == ("9",)
    assert label_names("mnist", "eval") == tuple("0123456789")


def test_only_the_files_of_the_chosen_labels_are_decoded(flat, caplog):
    tree(flat, {"10/broken.png": b"broken"})
    assert content(flat, "all", labels=["2"]) == {"2": [20, 21]}
    assert not caplog.records


def test_labels_are_chosen_by_any_of_their_forms(flat):
    tree(flat, {"B\u00e4r/1.png": 1, "B\u00e4r/2.png": 2})
    assert load(str(flat), "all", labels=[" Ba\u0308r "]).names == ("B\u00e4r",)


def test_images_are_brought_to_the_rules(flat):
    images = load(str(flat), "all", rules=PixelRules(16, 3, invert=True), labels=["2"])
    assert images.pixels.shape == (2, 3, 16, 16)
    assert shades(images) == [235, 234]


def test_a_source_of_its_own_is_evaluated_whole_where_it_has_no_part_for_that(tmp_path, flat):
    tree(tmp_path / "parts", {"train/a/1.png": 1, "test/a/1.png": 2})
    tree(tmp_path / "new", {"1.png": 1})
    assert [evaluation_split(name, root=tmp_path) for name in ("mnist", "flat", "parts", "new")] == [
        "eval",
        "all",
        "eval",
        "all",
    ]


def test_another_kind_of_archive_is_no_source(tmp_path):
    (tmp_path / "photos.tar").write_bytes(b"ustar")
    with pytest.raises(DataError, match=r"photos\.tar cannot be read as an \.npz file of images"):
        load(str(tmp_path / "photos.tar"), "train")


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
        assert len(load(source, "all", root=flat.parent)) == 5


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
