"""Images and labels in one .npz file."""

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest

from fedlmd.data import DataError, ImagesConfig, PixelRules, choose_rules, load, scan, survey
from tests.data.samples import RAMP, both, content, paint


@pytest.fixture
def arrays(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "some.npz", **arrays)
        return str(tmp_path / "some.npz")

    return save


def images(count, *shape, first=0):
    levels = (first + np.arange(count)).astype(np.uint8)
    return levels.reshape(count, *[1] * len(shape)) * np.ones(shape, dtype=np.uint8)


def test_an_archive_without_parts_is_divided_the_same_way_every_time(arrays):
    source = arrays(x=images(20, 28, 28), y=np.array(["b", "a"] * 10))
    train, held = both(source)
    assert (train, held) == both(source)
    assert [len(levels) for levels in (*train.values(), *held.values())] == [8, 8, 2, 2]
    assert content(source, "all") == {"a": list(range(1, 20, 2)), "b": list(range(0, 20, 2))}
    assert {label: sorted(train[label] + held[label]) for label in train} == content(source, "all")


def test_an_archive_with_parts_numbers_the_labels_alike_in_both(arrays):
    source = arrays(
        x_train=images(2, 28, 28), y_train=np.array([10, 2]), x_test=images(2, 28, 28, 3), y_test=np.array([3, 10])
    )
    train, evaluation = load(source, "train"), load(source, "eval")
    assert train.names == evaluation.names == ("2", "3", "10")
    assert train.labels.tolist() == [2, 0]
    assert evaluation.labels.tolist() == [1, 2]
    assert evaluation.pixels[:, 0, 0, 0].tolist() == [0, 1]


def part(first, labels, x="x", y="y"):
    return {x: images(len(labels), 28, 28, first=first), y: np.array(labels)}


@pytest.mark.parametrize(
    ("content", "train", "evaluation"),
    [
        (
            part(0, [[1], [2]], "train_images", "train_labels")
            | part(10, [[1], [2]], "val_images", "val_labels")
            | part(20, [[1], [2]], "test_images", "test_labels"),
            {"1": [0, 10], "2": [1, 11]},
            {"1": [20], "2": [21]},
        ),
        (part(0, ["a"], "X_train", "Y_train") | part(9, ["a"], "X_TEST", "Y_TEST"), {"a": [0]}, {"a": [9]}),
        (part(0, ["a"], "train_x", "train_y") | part(9, ["a"], "valid_x", "valid_y"), {"a": [0]}, {"a": [9]}),
        (part(0, ["a"]) | part(9, ["a"], "x_test", "y_test"), {"a": [0]}, {"a": [9]}),
        (part(0, ["a"], "data.train", "targets.train") | part(9, ["a"], "imgs-test", "classes-test"), None, None),
        (
            part(0, ["a"], "x_train", "y_train") | part(9, ["a"], "x_test", "y_test") | part(5, ["a"]),
            {"a": [0]},
            {"a": [9]},
        ),
        (part(0, ["a"], "image", "image_label") | part(9, ["a"], "test_image", "test_image_label"), None, None),
    ],
    ids=["MedMNIST", "capitals", "validation", "test beside", "other words", "all beside", "image labels"],
)
def test_arrays_are_known_by_their_names(arrays, content, train, evaluation):
    assert both(arrays(**content)) == (train or {"a": [0]}, evaluation or {"a": [9]})


@pytest.mark.parametrize(
    "shape", [(28, 28), (28, 28, 1), (28, 28, 3), (1, 28, 28), (3, 28, 28), (28, 28, 2), (4, 28, 28)]
)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int64, np.float32, np.float64])
def test_images_of_any_shape_and_type_become_what_they_show(arrays, shape, dtype):
    top = {np.bool_: 1, np.uint8: 255, np.uint16: 65535, np.int64: 255, np.float32: 1, np.float64: 255}[dtype]
    x = np.zeros((4, *shape), dtype)
    x[1:] = top
    if 2 in shape or 4 in shape:  # the last channel is the transparency
        alpha = (slice(None), -1) if shape[0] == 4 else (..., -1)
        x[alpha] = top
    source = arrays(x=x, y=np.array([0, 1, 1, 1]))
    rules = choose_rules(28, 1, ImagesConfig(), [survey(source).facts]).rules
    assert content(source, "all", rules=rules) == {"0": [0], "1": [255, 255, 255]}


def test_channels_first_and_last_are_the_same_image(arrays):
    last = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8)
    rules = PixelRules(channels=3)
    read = [
        load(arrays(x=x, y=np.arange(3)), "all", rules=rules).pixels.numpy() for x in (last, last.transpose(0, 3, 1, 2))
    ]
    assert np.array_equal(read[0], last.transpose(0, 3, 1, 2))
    assert np.array_equal(read[0], read[1])


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([3, 10, 3]), ("3", "10")),
        (np.array([[3], [10], [3]]), ("3", "10")),
        (np.array([3.0, 10.0, 3.0]), ("3", "10")),
        (np.array([True, False, True]), ("0", "1")),
        (np.array(["cat", "dog", " cat "]), ("cat", "dog")),
        (np.array([b"cat", b"dog", b"cat"]), ("cat", "dog")),
        (np.array(["B\u00e4r", "Ba\u0308r", "dog"]), ("B\u00e4r", "dog")),
        (np.array([1, 2, 3], np.uint8), ("1", "2", "3")),
    ],
)
def test_labels_are_whole_numbers_or_text(arrays, labels, names):
    assert scan(arrays(x=images(3, 28, 28), y=labels)).labels == names


def test_images_whose_values_are_no_numbers_are_passed_over(arrays, caplog):
    x = np.stack([RAMP / 255, np.full((28, 28), np.nan), RAMP / 510])
    source = arrays(x=x, y=np.array([0, 0, 1]))
    assert [len(load(source, "all", labels=[label])) for label in ("0", "1")] == [1, 1]
    assert "1 passed over: an image that cannot be decoded (some of its values are not finite numbers" in caplog.text


ONE = images(2, 28, 28)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": ONE}, "it needs arrays x and y, or x_train.*; it has x$"),
        ({"arr_0": ONE, "arr_1": np.arange(2)}, "it needs arrays x and y.*; it has arr_0, arr_1$"),
        ({"x": ONE, "y": np.arange(2), "y2": np.arange(2)}, "it has several arrays of labels, y and y2; leave one"),
        ({"x": images(2, 28), "y": np.arange(2)}, r"must be \(N, H, W\).*not \(2, 28\)"),
        ({"x": images(2, 28, 28, 5), "y": np.arange(2)}, r"must be \(N, H, W\).*not \(2, 28, 28, 5\)"),
        ({"x": images(2, 3, 28, 28, 1), "y": np.arange(2)}, r"must be \(N, H, W\).*not \(2, 3, 28, 28, 1\)"),
        ({"x": images(0, 28, 28), "y": np.arange(0)}, "not empty"),
        ({"x": np.zeros((2, 28, 28), complex), "y": np.arange(2)}, "must be numbers or bool, not complex128"),
        ({"x": np.full((2, 28, 28), "a"), "y": np.arange(2)}, "must be numbers or bool, not <U1"),
        ({"x": ONE, "y": np.arange(3)}, "2 images but 3 labels"),
        ({"x": ONE, "y": np.array([0.5, 1])}, "labels must be whole numbers or strings, not float64"),
        ({"x": ONE, "y": np.array([np.nan, 1])}, "labels must be whole numbers or strings, not float64"),
        ({"x": ONE, "y": np.eye(2)}, r"its labels have 2 columns, one label for each image is needed: \(N,\) or"),
        ({"x": ONE, "y": np.ones((2, 14), int)}, "its labels have 14 columns, one label for each image is needed"),
        ({"x": ONE, "y": np.ones((2, 1, 1), int)}, r"its labels must be \(N,\) or \(N, 1\), not \(2, 1, 1\)"),
        ({"x": ONE, "y": np.array([b"\xff", b"a"])}, "codec can't decode"),
        ({"x": ONE, "y": np.array([{}, {}])}, "cannot be read .*it holds pickled objects"),
        ({"x": np.array([{}, {}]), "y": np.arange(2)}, "cannot be read .*it holds pickled objects"),
        ({"x_test": ONE, "y_test": np.arange(2)}, "it has a part to evaluate on but none to train on"),
    ],
)
def test_arrays_of_a_wrong_form_are_named(arrays, content, message):
    source = arrays(**content)
    with pytest.raises(DataError, match=message) as caught:
        load(source, "train")
    assert "some.npz" in str(caught.value)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-40], lambda data: b"no archive at all"])
def test_a_corrupt_archive_is_named_in_the_error(arrays, damage):
    source = arrays(x=images(2, 28, 28), y=np.arange(2))
    Path(source).write_bytes(damage(Path(source).read_bytes()))
    with pytest.raises(DataError, match=r"some\.npz cannot be read as an \.npz file"):
        load(source, "train")


def test_a_single_array_under_the_name_of_an_archive_is_refused(tmp_path):
    with (tmp_path / "one.npz").open("wb") as file:
        np.save(file, images(2, 28, 28))
    with pytest.raises(DataError, match="it holds a single array"):
        load(str(tmp_path / "one.npz"), "train")


def archive_of(path, header, size):
    """An archive whose array x has this header, and nothing behind it."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": header}).encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    labels = BytesIO()
    np.save(labels, np.arange(2))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(size))
        archive.writestr("y.npy", labels.getvalue())
    return str(path)


@pytest.mark.parametrize("shape", [(10**9, 10**9, 10**9), (2, 10**6, 10**6), (2, 10**4, 10**4), (-1, 28, 28)])
def test_a_header_that_claims_more_than_there_is_is_refused(tmp_path, shape):
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file of images"):
        load(archive_of(tmp_path / "bomb.npz", shape, 100), "train")


def test_images_above_the_largest_size_are_refused(tmp_path):
    x = np.broadcast_to(np.uint8(0), (1, 5000, 5000))
    np.savez_compressed(tmp_path / "large.npz", x=x, y=np.array([0]))
    with pytest.raises(DataError, match="more than 20,000,000 pixels"):
        load(str(tmp_path / "large.npz"), "all")


def test_arrays_that_do_not_fit_into_memory_are_refused_before_they_are_unpacked(arrays, monkeypatch):
    source = arrays(x=images(2, 28, 28), y=np.arange(2))
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(DataError, match=r"its arrays take .* bytes of memory and 1,000 are free"):
        load(source, "train")


def test_a_file_of_another_kind_is_not_said_to_hold_pickled_objects(tmp_path):
    paint(tmp_path / "a.png")
    with pytest.raises(DataError, match="it is a file of another kind; it needs arrays x and y"):
        load(str(tmp_path / "a.png"), "train")


def test_of_an_archive_of_many_files_some_are_named(tmp_path):
    np.savez(tmp_path / "many.npz", **{f"cat_{number}": ONE for number in range(1200)})
    with pytest.raises(DataError, match=r"it has cat_0, .*cat_9 and 1,190 more$"):
        load(str(tmp_path / "many.npz"), "train")
