"""The layouts of a folder of image files."""

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import DataError, load, scan
from tests.data.samples import both, content, encode, tree

TRAIN = {f"train/{label}/{number}.png": level + number for label, level in (("a", 10), ("b", 50)) for number in (1, 2)}
EVAL = {"test/a/1.png": 101, "test/b/1.png": 151}
LABELS = {f"{label}/{number}.png": level + number for label, level in (("2", 10), ("10", 50)) for number in range(5)}
DIVIDED = ({"a": [11, 12], "b": [51, 52]}, {"a": [101], "b": [151]})


def below(place, files):
    return {f"{place}/{name}": value for name, value in files.items()}


def renamed(files, **names):
    return {"/".join(names.get(part, part) for part in place.split("/")): value for place, value in files.items()}


def reasons(folder):
    """What is passed over, by reason."""
    return dict(scan(str(folder)).passed_over.counts)


def test_label_folders_are_divided_the_same_way_every_time(tmp_path):
    tree(tmp_path, LABELS)
    train, held = both(tmp_path)
    assert (train, held) == both(tmp_path)
    assert [len(images) for images in (*train.values(), *held.values())] == [4, 4, 1, 1]
    assert (
        content(tmp_path, "all")
        == {label: sorted(train[label] + held[label]) for label in ("2", "10")}
        == {"2": [10, 11, 12, 13, 14], "10": [50, 51, 52, 53, 54]}
    )


def test_labels_and_files_come_in_natural_order(tmp_path):
    tree(tmp_path, {"10/10.png": 110, "10/9.bmp": 109, "2/a.png": 20})
    images = load(str(tmp_path), "all")
    assert images.names == ("2", "10")
    assert images.labels.tolist() == [0, 1, 1]
    assert images.pixels[:, 0, 0, 0].tolist() == [20, 109, 110]


def test_images_below_further_folders_of_a_label_are_its_images(tmp_path):
    tree(tmp_path, {"cat/patient 1/1.png": 1, "cat/patient 2/left/1.png": 2, "dog/1.png": 3, "dog/patient 3/1.png": 4})
    assert content(tmp_path, "all") == {"cat": [1, 2], "dog": [3, 4]}


@pytest.mark.parametrize(
    "files",
    [
        TRAIN | EVAL,
        renamed(TRAIN | EVAL, train="Training", test="Testing"),
        renamed(TRAIN | EVAL, train="TRAIN", test="eval"),
        renamed(TRAIN | EVAL, test="val"),
        renamed(TRAIN | EVAL, test="Validation"),
        below("photos", TRAIN | EVAL),
        below("archive/photos v2", TRAIN | EVAL),
        renamed(TRAIN | EVAL, a="a/patient 7"),
        TRAIN | EVAL | {"ground_truth/a/1.png": 0, "ground_truth/b/1.png": 0},
    ],
    ids=["train, test", "any case", "eval", "val", "validation", "wrapped", "twice wrapped", "nested", "ground truth"],
)
def test_split_folders_are_the_parts(tmp_path, files):
    assert both(tree(tmp_path, files)) == DIVIDED


def test_a_part_to_train_on_alone_is_divided(tmp_path):
    tree(tmp_path, TRAIN)
    train, held = both(tmp_path)
    assert {label: sorted(train[label] + held[label]) for label in train} == DIVIDED[0]


def test_with_a_part_to_test_on_the_validation_part_is_for_training(tmp_path):
    tree(tmp_path, TRAIN | EVAL | {"val/a/1.png": 91})
    assert both(tmp_path) == ({"a": [11, 12, 91], "b": [51, 52]}, DIVIDED[1])
    assert scan(str(tmp_path)).notes == (
        "1 images of the validation part are taken for training; the test part evaluates",
    )


def test_parts_for_test_and_validation_alone_train_on_the_latter(tmp_path):
    tree(tmp_path, renamed(TRAIN, train="val") | EVAL)
    assert both(tmp_path) == DIVIDED


def test_a_part_to_evaluate_on_alone_is_refused(tmp_path):
    with pytest.raises(DataError, match="has a part to evaluate on but none to train on; add a part train"):
        load(str(tree(tmp_path, EVAL)), "eval")


def test_labels_are_numbered_alike_in_both_parts(tmp_path):
    tree(tmp_path, {"train/a/1.png": 1, "train/b/1.png": 2, "eval/b/1.png": 3})
    evaluation = load(str(tmp_path), "eval")
    assert evaluation.names == ("a", "b")
    assert evaluation.labels.tolist() == [1]
    with pytest.raises(DataError, match="'a' has no eval image"):
        load(str(tmp_path), "eval", labels=["a"])
    assert content(tmp_path, "all", labels=["a"]) == {"a": [1]}


def test_wrapping_is_said(tmp_path):
    tree(tmp_path, below("archive/photos", LABELS))
    assert scan(str(tmp_path)).notes == ("everything lies in the folder archive/photos, which is taken for the source",)


def test_a_loose_image_does_not_hide_that_the_rest_is_wrapped(tmp_path):
    tree(tmp_path, {"logo.png": 0, "archive/photos/a/1.png": 1, "archive/photos/b/1.png": 2})
    assert content(tmp_path, "all") == {"a": [1], "b": [2]}
    assert reasons(tmp_path) == {"images beside the label folders": 1}
    assert "everything lies in the folder archive/photos" in scan(str(tmp_path)).notes[0]


def test_one_label_alone_is_not_a_wrapping(tmp_path):
    assert content(tree(tmp_path, {"cat/1.png": 1, "cat/2.png": 2}), "all") == {"cat": [1, 2]}
    assert content(tree(tmp_path / "more", {"cat/1.png": 1, "cat/old/2.png": 2}), "all") == {"cat": [1, 2]}


def test_folders_beside_the_parts_are_counted(tmp_path):
    tree(tmp_path, TRAIN | EVAL | {"ground_truth/a/1.png": 0, "loose.png": 0, "train/loose.png": 0})
    assert reasons(tmp_path) == {"beside the folders of the splits": 1, "images beside the label folders": 2}


def test_parts_can_lie_within_the_label_folders(tmp_path):
    files = {
        place.split("/", 2)[1] + "/" + place.split("/", 2)[0] + "/" + place.split("/", 2)[2]: value
        for place, value in (TRAIN | EVAL).items()
    }
    tree(tmp_path, files)
    assert both(tmp_path) == DIVIDED
    tree(tmp_path, {"b/1.png": 77})
    assert scan(str(tmp_path)).divided is False


def test_a_label_can_be_called_train(tmp_path):
    tree(tmp_path, {"train/1.png": 1, "train/2.png": 2, "plane/1.png": 3, "car/1.png": 4})
    assert content(tmp_path, "all") == {"car": [4], "plane": [3], "train": [1, 2]}
    assert scan(str(tmp_path)).notes == ("the folder train holds images and no folders, so it is taken for a label",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"1.png": 1, "2.png": 2}, "has images but no label folders; put each label's images in a folder of its name"),
        ({"train/1.png": 1, "test/2.png": 2}, "has images in test, train but no label folders there; put each label's"),
        ({"train/1.png": 1}, "has images in train but no label folders there"),
        ({"a/notes.txt": "x"}, r"holds no image \(1 passed over: no image by its name \(.txt\) \(such as a/notes.txt"),
        ({"a": None}, r"holds no image \(1 passed over: an empty folder \(such as a\)\)"),
        ({}, r"holds no image \(it is empty\)"),
    ],
)
def test_a_folder_without_labels_or_images_is_refused_with_the_reason(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        load(str(tree(tmp_path, files)), "train")


def test_images_without_labels_are_taken_where_none_are_needed(tmp_path):
    tree(tmp_path / "new", {"1.png": 1, "2.png": 2})
    images = load(str(tmp_path / "new"), "all", labelled=False)
    assert images.names == ("new",)
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2]


def test_empty_label_folders_are_passed_over_and_counted(tmp_path):
    tree(tmp_path, LABELS | {"3": None, "4": None})
    assert load(str(tmp_path), "train").names == ("2", "10")
    assert reasons(tmp_path) == {"an empty folder": 2}


def test_files_that_are_no_images_are_passed_over_and_counted_by_their_suffix(tmp_path):
    tree(tmp_path, LABELS | {"README.md": "x", "2/a.txt": "x", "2/b.txt": "x", "2/LICENSE": "x", "2/UPPER.PNG": 21})
    assert content(tmp_path, "all")["2"] == [10, 11, 12, 13, 14, 21]
    assert reasons(tmp_path) == {
        "no image by its name (.txt)": 2,
        "no image by its name (.md)": 1,
        "no image by its name (no suffix)": 1,
    }


SYSTEM_FILES = {
    "@eaDir/1.png/thumb.png": 0,
    "2/@eaDir/0.png": 0,
    "lost+found": None,
    "__MACOSX/2/._0.png": "x",
    ".DS_Store": "x",
    "2/.DS_Store": "x",
    "2/._0.png": "x",
    "2/Thumbs.db": "x",
    "desktop.ini": "x",
    ".ipynb_checkpoints/0.png": 0,
    "$RECYCLE.BIN/0.png": 0,
    "System Volume Information/0.png": 0,
    "#recycle/0.png": 0,
    ".git/0.png": 0,
}


@pytest.mark.parametrize(
    ("files", "first"), [(LABELS, "2"), (below("train", LABELS) | below("test", LABELS), "test/10")]
)
def test_files_of_the_system_are_never_labels_and_count_for_nothing(tmp_path, files, first, caplog):
    tree(tmp_path, files | {place.replace("2/", f"{first}/", 1): text for place, text in SYSTEM_FILES.items()})
    assert load(str(tmp_path), "train").names == ("2", "10")
    assert reasons(tmp_path) == {"a file or folder of the system": len(SYSTEM_FILES)}
    assert scan(str(tmp_path)).passed_over.sentences(system=False) == []
    assert not caplog.records


def test_masks_beside_photographs_are_passed_over(tmp_path):
    photographs = {f"cat/{number}.jpg": encode(Image.new("L", (28, 28), 200), "JPEG") for number in range(4)}
    tree(tmp_path, photographs | {f"cat/{number}.png": 0 for number in range(3)} | {"dog/1.png": 50})
    assert content(tmp_path, "all") == {"cat": [200] * 4, "dog": [50]}
    assert reasons(tmp_path) == {"a PNG file beside a photograph of the same name, taken for its mask": 3}


def test_a_few_files_of_the_same_name_are_no_masks(tmp_path):
    photographs = {f"cat/{number}.jpg": encode(Image.new("L", (28, 28), 200), "JPEG") for number in range(5)}
    tree(tmp_path, photographs | {"cat/0.png": 7})
    assert content(tmp_path, "all") == {"cat": [200, 7, 200, 200, 200, 200]}


def test_a_folder_that_is_called_like_an_image_is_a_label(tmp_path):
    assert content(tree(tmp_path, {"cat.png/1.png": 1, "dog/1.png": 2}), "all") == {"cat.png": [1], "dog": [2]}


def test_names_in_other_forms_of_unicode_are_one_label(tmp_path):
    tree(tmp_path, {"train/B\u00e4r/1.png": 1, "train/cat /1.png": 2, "test/Ba\u0308r/1.png": 3, "test/cat/1.png": 4})
    assert both(tmp_path) == ({"B\u00e4r": [1], "cat": [2]}, {"B\u00e4r": [3], "cat": [4]})


def test_labels_that_differ_in_case_stay_two_and_are_pointed_out(tmp_path):
    tree(tmp_path, {"train/cat/1.png": 1, "train/dog/1.png": 2, "test/Cat/1.png": 3})
    catalogue = scan(str(tmp_path))
    assert catalogue.labels == ("Cat", "cat", "dog")
    assert "the labels 'Cat' and 'cat' look alike" in catalogue.notes[0]


@pytest.mark.parametrize("label", ["a\nb", "[red]", "100%", "{x}", "-rf", "~", "a'b", "\u202ecat"])
def test_odd_names_are_labels_like_others(tmp_path, label):
    tree(tmp_path, {f"{label}/1\n[bold].png": 1, f"{label}/2.png": b"broken", "z/1.png": 2})
    assert content(tmp_path, "all") == {" ".join(label.split()): [1], "z": [2]}


def test_names_that_are_not_utf_8_are_read(tmp_path):
    tree(tmp_path, {"caf\udce9/\udcff.png": 1, "tea/1.png": 2})
    assert content(tmp_path, "all") == {"caf\ufffd": [1], "tea": [2]}


LAYOUTS = {
    "labels": LABELS,
    "parts": renamed(TRAIN | EVAL, test="eval"),
    "validation": TRAIN | EVAL | {"val/a/1.png": 91},
    "train alone": TRAIN,
    "wrapped": below("x/y", LABELS),
    "table": {"labels.csv": "file,label\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(9))}
    | {f"{n}.png": n for n in range(9)},
    "tables": {"train.csv": "file,label\n1.png,a\n2.png,b\n", "test.csv": "file,label\n2.png,b\n3.png,a\n"}
    | {f"{n}.png": n for n in range(1, 4)},
    "column": {"labels.csv": "file,label,split\n1.png,a,train\n2.png,b,val\n3.png,a,test\n1.png,b,test\n"}
    | {f"{n}.png": n for n in range(1, 4)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_image_is_both_for_training_and_for_evaluation(tmp_path, layout):
    tree(tmp_path, LAYOUTS[layout])
    train, held, everything = (
        load(str(tmp_path), split).pixels[:, 0, 0, 0].tolist() for split in ("train", "eval", "all")
    )
    assert train
    assert held
    assert not set(train) & set(held)
    assert sorted(train + held) == sorted(everything)
    assert np.unique(everything).size == len(everything)
