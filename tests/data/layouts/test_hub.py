"""Data sets of Hugging Face on disk, written here in the form that the library ``datasets`` 5.2 writes."""

import json
import sys

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from fedlmd.data import DataError, load, scan
from tests.data.samples import both, content, encode, paint

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def flat(level):
    return {"bytes": encode(Image.new("L", (28, 28), level)), "path": None}


def table(levels, labels, features=FEATURES, names=("image", "label")):
    columns = [pyarrow.array([flat(level) for level in levels], PICTURE), pyarrow.array(labels)]
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pyarrow.table(dict(zip(names, columns, strict=True))).replace_schema_metadata(metadata)


def save(folder, rows, shards=1):
    """One split as ``save_to_disk`` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{shards:05d}.arrow" for number in range(shards)]
    size = -(-rows.num_rows // shards)
    for number, name in enumerate(names):
        with pyarrow.OSFile(str(folder / name), "wb") as file, pyarrow.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows.slice(number * size, size))
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def save_parts(folder, **parts):
    for name, rows in parts.items():
        save(folder / name, rows)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))


def repository(folder, **parts):
    """Files as a repository of a data set has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in parts.items():
        parquet.write_table(rows, folder / f"{name}-00000-of-00001.parquet")


TRAIN, TEST, VALIDATION = table([1, 2, 3], [0, 1, 0]), table([11, 12], [0, 1]), table([21], [1])
DIVIDED = ({"cat": [1, 3], "dog": [2]}, {"cat": [11], "dog": [12]})


def test_a_saved_data_set_of_one_part_is_divided(tmp_path):
    save(tmp_path / "saved", table(range(10), [0, 1] * 5), shards=3)
    assert content(tmp_path / "saved", "all") == {"cat": [0, 2, 4, 6, 8], "dog": [1, 3, 5, 7, 9]}
    train, held = both("saved", root=tmp_path)
    assert [len(levels) for levels in (*train.values(), *held.values())] == [4, 4, 1, 1]
    assert {label: sorted(train[label] + held[label]) for label in train} == content(tmp_path / "saved", "all")


@pytest.mark.parametrize("write", [save_parts, repository])
def test_parts_are_read_by_their_names(tmp_path, write):
    write(tmp_path / "set", train=TRAIN, test=TEST)
    assert both(tmp_path / "set") == DIVIDED
    write(tmp_path / "more", train=TRAIN, test=TEST, validation=VALIDATION)
    assert both(tmp_path / "more") == ({"cat": [1, 3], "dog": [2, 21]}, DIVIDED[1])
    write(tmp_path / "other", train=TRAIN, validation=VALIDATION, unsupervised=TEST)
    assert both(tmp_path / "other") == (DIVIDED[0], {"dog": [21]})
    assert dict(scan(str(tmp_path / "other")).passed_over.counts) == {
        "a split that is neither for training nor for evaluation": 1
    }


@pytest.mark.parametrize("folder", ["data", "mnist", "."])
def test_a_repository_may_have_its_files_in_one_further_folder(tmp_path, folder):
    repository(tmp_path / folder, train=TRAIN, test=TEST)
    (tmp_path / "README.md").write_text("x")
    assert both(tmp_path) == DIVIDED


def test_a_repository_of_several_data_sets_is_refused_with_their_names(tmp_path):
    repository(tmp_path / "large", train=TRAIN)
    repository(tmp_path / "small", train=TRAIN)
    with pytest.raises(DataError, match="holds several data sets; give the folder of one: large, small"):
        load(str(tmp_path), "train")
    assert len(load(str(tmp_path / "small"), "all")) == 3


def test_files_of_a_cache_beside_a_saved_data_set_are_not_read(tmp_path):
    save(tmp_path / "saved", TRAIN)
    (tmp_path / "saved" / "cache-1.arrow").write_bytes((tmp_path / "saved" / "data-00000-of-00001.arrow").read_bytes())
    assert len(load(str(tmp_path / "saved"), "all")) == 3


def test_images_without_a_label_are_passed_over(tmp_path):
    save_parts(tmp_path / "hidden", train=TRAIN, test=table([7, 8], [-1, -1]))
    assert not scan(str(tmp_path / "hidden")).divided
    assert dict(scan(str(tmp_path / "hidden")).passed_over.counts) == {"without a label": 2}
    repository(tmp_path / "some", train=table([1, 2, 3, 4], [0, None, 1, 9]))
    assert content(tmp_path / "some", "all") == {"cat": [1], "dog": [3]}


@pytest.mark.parametrize(
    ("labels", "features", "expected"),
    [
        (["b", "a", "b"], None, {"a": [2], "b": [1, 3]}),
        ([10, 2, 10], None, {"2": [2], "10": [1, 3]}),
        ([1, 0, 1], {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "int64"}}, None),
        (["cat ", "dog", "cat"], None, {"cat": [1, 3], "dog": [2]}),
    ],
)
def test_labels_without_names_are_their_own(tmp_path, labels, features, expected):
    repository(tmp_path, train=table([1, 2, 3], labels, features))
    assert content(tmp_path, "all") == (expected or {"0": [2], "1": [1, 3]})


def test_columns_are_known_by_their_features_before_their_names(tmp_path):
    features = {"scan": {"_type": "Image"}, "finding": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    repository(tmp_path, train=table([1, 2], [0, 1], features, names=("scan", "finding")))
    assert content(tmp_path, "all") == {"no": [1], "yes": [2]}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table([1], [0], None, names=("scan", "label")), "needs a column image; it has scan, label"),
        (table([1], [0], None, names=("image", "finding")), "needs a column label; it has image, finding"),
        (table([1], [[0, 1]], None), "the column label of .* holds several labels for an image; one is needed"),
        (TRAIN.replace_schema_metadata({"huggingface": "{"}), "cannot be read as a Hugging Face data set"),
        (TRAIN.replace_schema_metadata({"huggingface": "[]"}), "its features are no table"),
    ],
)
def test_a_table_of_another_form_is_refused_with_the_reason(tmp_path, rows, message):
    repository(tmp_path, train=rows)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path), "train")


def test_a_part_to_evaluate_on_alone_is_refused(tmp_path):
    repository(tmp_path, test=TEST)
    with pytest.raises(DataError, match="has a part to evaluate on but none to train on"):
        load(str(tmp_path), "train")


def test_images_that_are_files_elsewhere_are_read_only_inside_the_folder(tmp_path):
    paint(tmp_path / "set" / "images" / "1.png", 5)
    paint(tmp_path / "secret.png", 99)
    paths = ["images/1.png", "../secret.png", str(tmp_path / "secret.png"), "a\0b", None, "gone.png"]
    pictures = [{"bytes": None, "path": path} for path in paths]
    rows = pyarrow.table({"image": pyarrow.array(pictures, PICTURE), "label": ["a"] * 6})
    repository(tmp_path / "set", train=rows)
    assert content(tmp_path / "set", "all") == {"a": [5]}


@pytest.mark.parametrize("write", [save_parts, repository])
def test_a_link_within_a_data_set_cannot_leave_the_data_root(tmp_path, write):
    write(tmp_path / "elsewhere", train=TRAIN)
    (tmp_path / "root").mkdir()
    write(tmp_path / "root" / "set", train=TRAIN)
    (file,) = [path for kind in ("*.arrow", "*.parquet") for path in (tmp_path / "root").rglob(kind)]
    file.unlink()
    file.symlink_to(next(path for kind in ("*.arrow", "*.parquet") for path in (tmp_path / "elsewhere").rglob(kind)))
    assert len(load(str(tmp_path / "root" / "set"), "all")) == 3
    with pytest.raises(DataError, match="leads outside the data root"):
        load("set", "all", root=tmp_path / "root")


@pytest.mark.parametrize(
    "state", ["", "{}", "[]", '{"_data_files": [{}]}', '{"_data_files": [{"filename": "../../x.arrow"}]}']
)
def test_a_damaged_state_is_refused(tmp_path, state):
    save(tmp_path / "saved", TRAIN)
    (tmp_path / "saved" / "state.json").write_text(state)
    with pytest.raises(DataError, match="cannot be read"):
        load(str(tmp_path / "saved"), "train")


@pytest.mark.parametrize("name", ["data-00000-of-00001.arrow", "train-00000-of-00001.parquet"])
def test_a_damaged_file_is_refused(tmp_path, name):
    if name.endswith("arrow"):
        save(tmp_path / "set", TRAIN)
    else:
        repository(tmp_path / "set", train=TRAIN)
    file = tmp_path / "set" / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be read as a Hugging Face data set"):
        load(str(tmp_path / "set"), "train")


def test_a_damaged_image_is_passed_over(tmp_path, caplog):
    pictures = [flat(1), {"bytes": b"broken", "path": None}]
    repository(tmp_path, train=pyarrow.table({"image": pyarrow.array(pictures, PICTURE), "label": [0, 0]}))
    assert content(tmp_path, "all") == {"0": [1]}
    assert f"(such as {tmp_path}, row 1)" in caplog.text


def test_images_may_be_plain_bytes(tmp_path):
    rows = pyarrow.table({"img": [flat(1)["bytes"], flat(2)["bytes"]], "fine_label": [0, 1]})
    repository(tmp_path, train=rows)
    assert content(tmp_path, "all") == {"0": [1], "1": [2]}


def test_without_pyarrow_the_package_to_install_is_named(tmp_path, monkeypatch):
    repository(tmp_path, train=TRAIN)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow: pip install 'fedlmd\[huggingface\]'"):
        load(str(tmp_path), "train")


def test_parquet_files_beside_label_folders_that_are_no_parts_do_no_harm(tmp_path):
    paint(tmp_path / "cat" / "1.png", 1)
    paint(tmp_path / "dog" / "1.png", 2)
    for place in ("sizes.parquet", "cat/sizes.parquet"):
        parquet.write_table(pyarrow.table({"width": [1]}), tmp_path / place)
    (tmp_path / "state.json").write_text("{}")
    assert content(tmp_path, "all") == {"cat": [1], "dog": [2]}


def test_one_file_of_any_name_is_a_data_set(tmp_path):
    parquet.write_table(TRAIN, tmp_path / "digits.parquet")
    assert content(tmp_path, "all") == {"cat": [1, 3], "dog": [2]}


def test_many_rows_keep_their_order(tmp_path):
    levels = np.arange(200)
    save(tmp_path / "saved", table(levels.tolist(), (levels % 2).tolist()), shards=7)
    assert content(tmp_path / "saved", "all") == {"cat": list(range(0, 200, 2)), "dog": list(range(1, 200, 2))}
