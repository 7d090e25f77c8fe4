"""Labels in a table beside the images."""

import pytest

from fedlmd.data import DataError, load, scan
from tests.data.samples import both, content, tree

IMAGES = {f"images/{number}.png": number for number in range(1, 7)}
ROWS = [("1", "cat"), ("2", "dog"), ("3", "cat"), ("4", "dog"), ("5", "cat"), ("6", "dog")]
LABELS = {"cat": [1, 3, 5], "dog": [2, 4, 6]}


def csv(rows, head="file,label", form="{}.png", delimiter=","):
    lines = [head.replace(",", delimiter), *(delimiter.join([form.format(row[0]), *row[1:]]) for row in rows)]
    return "\n".join(lines) + "\n"


def reasons(folder):
    return dict(scan(str(folder)).passed_over.counts)


@pytest.mark.parametrize("form", ["{}.png", "{}", "images/{}.png", "./images/{}.png", "images/{}", "images\\{}.png"])
def test_files_are_named_with_or_without_suffix_and_folder(tmp_path, form):
    tree(tmp_path, IMAGES | {"labels.csv": csv(ROWS, form=form)})
    assert content(tmp_path, "all") == LABELS
    assert reasons(tmp_path) == {}
    assert scan(str(tmp_path)).notes == ("labels are read from labels.csv, columns 'file' and 'label'",)


@pytest.mark.parametrize(
    "table",
    [
        {"label.csv": csv(ROWS)},
        {"images/labels.csv": csv(ROWS)},
        {"labels.tsv": csv(ROWS, delimiter="\t")},
        {"labels.csv": csv(ROWS, delimiter=";")},
        {"labels.csv": "\ufeff" + csv(ROWS)},
        {"labels.csv": csv(ROWS).replace("\n", "\r\n")},
        {"labels.csv": csv(ROWS, head="id_code,diagnosis", form="{}")},
        {"labels.csv": csv(ROWS, head="Filename,Class")},
        {"labels.csv": csv(ROWS, head="what,ever")},
        {"labels.csv": csv([(label, f"{name}.png") for name, label in ROWS], head="label,image", form="{}")},
        {"labels.csv": csv([(name, "9", label) for name, label in ROWS], head="file,age,label")},
        {"labels.csv": csv([(label, "x", name) for name, label in ROWS], head="category,note,image_id", form="{}")},
        {"labels.csv": 'file,label\n"1.png","cat"\n' + csv(ROWS[1:]).partition("\n")[2]},
    ],
)
def test_a_table_of_any_usual_form_gives_the_labels(tmp_path, table):
    assert content(tree(tmp_path, IMAGES | table), "all") == LABELS


def test_quoted_labels_keep_their_commas(tmp_path):
    tree(tmp_path, IMAGES | {"labels.csv": csv([(name, f'"{label}, big"') for name, label in ROWS])})
    assert content(tmp_path, "all") == {"cat, big": [1, 3, 5], "dog, big": [2, 4, 6]}


def test_a_table_in_a_further_folder_is_read_with_its_images(tmp_path):
    files = IMAGES | {"labels.csv": csv(ROWS)}
    assert content(tree(tmp_path, {f"archive/photos/{place}": text for place, text in files.items()}), "all") == LABELS


@pytest.mark.parametrize(("words", "split"), [(("train", "test"), "split"), (("Training", "Validation"), "Set")])
def test_a_column_of_splits_gives_the_parts(tmp_path, words, split):
    rows = [(name, label, words[int(name) > 4]) for name, label in ROWS]
    tree(tmp_path, IMAGES | {"labels.csv": csv(rows, head=f"file,label,{split}")})
    assert both(tmp_path) == ({"cat": [1, 3], "dog": [2, 4]}, {"cat": [5], "dog": [6]})


def test_a_column_that_says_other_things_is_no_column_of_splits(tmp_path):
    rows = [(name, label, "a" if int(name) > 4 else "train") for name, label in ROWS]
    tree(tmp_path, IMAGES | {"labels.csv": csv(rows, head="file,label,set")})
    assert not scan(str(tmp_path)).divided


def test_tables_of_the_parts_give_the_parts(tmp_path):
    tree(tmp_path, IMAGES | {"train.csv": csv(ROWS[:4]), "test_labels.csv": csv(ROWS[4:])})
    assert both(tmp_path) == ({"cat": [1, 3], "dog": [2, 4]}, {"cat": [5], "dog": [6]})


def test_a_table_of_everything_beside_those_of_the_parts_takes_nothing_from_them(tmp_path):
    tree(tmp_path, IMAGES | {"labels.csv": csv(ROWS), "train.csv": csv(ROWS[:4]), "test.csv": csv(ROWS[4:])})
    assert both(tmp_path) == ({"cat": [1, 3], "dog": [2, 4]}, {"cat": [5], "dog": [6]})
    assert reasons(tmp_path) == {"listed again in labels.csv": 6}


def test_the_folders_of_the_images_give_the_parts_where_the_table_does_not(tmp_path):
    images = {f"{'train' if number < 5 else 'test'}/{number}.png": number for number in range(1, 7)}
    tree(tmp_path, images | {"labels.csv": csv(ROWS)})
    assert both(tmp_path) == ({"cat": [1, 3], "dog": [2, 4]}, {"cat": [5], "dog": [6]})


def test_rows_and_images_without_each_other_are_counted(tmp_path):
    rows = [*ROWS[:4], ("77", "cat"), ("5", ""), ("1", "dog"), ("../../../../etc/passwd", "cat"), ("", "cat")]
    tree(tmp_path, IMAGES | {"labels.csv": csv(rows, form="{}")})
    assert content(tmp_path, "all") == {"cat": [1, 3], "dog": [2, 4]}
    assert reasons(tmp_path) == {
        "listed in labels.csv, but not there": 3,
        "without a label in labels.csv": 1,
        "listed again in labels.csv": 1,
        "not listed in the table of labels": 2,
    }


def test_a_row_cannot_name_a_file_outside_of_the_folder(tmp_path):
    tree(tmp_path / "secret", {"1.png": 99})
    rows = [("1.png", "cat"), ("../secret/1.png", "dog"), (str(tmp_path / "secret/1.png"), "dog"), ("2.png", "cat")]
    tree(tmp_path / "data", {"1.png": 1, "2.png": 2, "labels.csv": csv(rows, form="{}")})
    assert content(tmp_path / "data", "all") == {"cat": [1, 2]}


def test_names_that_two_files_have_are_taken_for_neither(tmp_path):
    images = {"left/1.png": 1, "right/1.png": 2, "left/2.png": 3}
    tree(tmp_path, images | {"labels.csv": csv([("1", "cat"), ("left/1", "cat"), ("2", "dog")])})
    assert content(tmp_path, "all") == {"cat": [1], "dog": [3]}


def test_an_image_without_folder_is_not_named_by_an_empty_cell(tmp_path):
    tree(tmp_path, {"1.png": 1, "2.png": 2, "labels.csv": "file,label\n1.png,cat\n,dog\n2.png,cat\n"})
    assert content(tmp_path, "all") == {"cat": [1, 2]}


def test_composed_and_decomposed_names_are_one(tmp_path):
    tree(tmp_path, {"Ba\u0308r.png": 1, "labels.csv": "file,label\nB\u00e4r.png,cat\n"})
    assert content(tmp_path, "all") == {"cat": [1]}


FOLDERS = {"cat/1.png": 1, "cat/2.png": 2, "dog/3.png": 3}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("name,price\nmilk,1\nbread,2\n", "a table that names no image and label"),
        ("age,price\n1,2\n2,3\n", "a table that names no image and label"),
        ("id,price\n1,2\n2,3\n", "a table that is not used, as more.csv names images"),
        ("", "a table that names no image and label"),
        ("file,width,height\n1.png,9,9\n2.png,9,9\n3.png,9,9\n", "a table that is not used, as more.csv names images"),
        (
            b"file,label\n1.png,b\xe4r\n",
            "a table that is not used, as more.csv is not UTF-8 text; save it as CSV UTF-8",
        ),
        ("file,label\n" + "x" * 200_000 + ",b\n", "a table that is not used, as more.csv cannot be read as a table"),
    ],
    ids=["unrelated", "numbers", "numbered", "empty", "without labels", "not UTF-8", "endless cell"],
)
def test_a_table_beside_label_folders_that_is_no_table_of_labels_does_no_harm(tmp_path, table, reason):
    tree(tmp_path, FOLDERS | {"more.csv": table})
    assert content(tmp_path, "all") == {"cat": [1, 2], "dog": [3]}
    ((said, count),) = reasons(tmp_path).items()
    assert said.startswith(reason)
    assert count == 1


def test_a_table_inside_a_label_folder_is_not_taken_for_labels_by_its_two_columns(tmp_path):
    tree(tmp_path, FOLDERS | {"cat/sizes.csv": "file,width\n1.png,9\n2.png,9\n"})
    assert content(tmp_path, "all") == {"cat": [1, 2], "dog": [3]}


def test_a_table_of_labels_goes_before_the_folders(tmp_path):
    tree(tmp_path, FOLDERS | {"labels.csv": "file,label\n1.png,x\n2.png,y\n3.png,y\n"})
    assert content(tmp_path, "all") == {"x": [1], "y": [2, 3]}


def test_the_files_of_a_competition_are_read_without_its_sample_of_an_answer(tmp_path):
    files = {
        "train.csv": "id_code,diagnosis\na1,0\na2,2\na3,0\n",
        "test.csv": "id_code\nb1\nb2\n",
        "sample_submission.csv": "id_code,diagnosis\nb1,0\nb2,0\n",
        **{f"train_images/a{number}.png": number for number in range(1, 4)},
        **{f"test_images/b{number}.png": 90 + number for number in range(1, 3)},
    }
    assert content(tree(tmp_path, files), "all") == {"0": [1, 3], "2": [2]}
    assert reasons(tmp_path)["not listed in the table of labels"] == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            "file,width,height\n1.png,9,9\n",
            "labels.csv names images in its column 'file', but has no column label; it ha",
        ),
        (b"file,label\n1.png,b\xe4r\n", "labels.csv is not UTF-8 text; save it as CSV UTF-8"),
        ("file,label\nz.png,cat\n", "has images but no label folders; put each label's images in a folder"),
    ],
)
def test_images_whose_table_cannot_be_used_are_refused_with_the_reason(tmp_path, table, message):
    tree(tmp_path, {"1.png": 1, "2.png": 2, "labels.csv": table})
    with pytest.raises(DataError, match=message):
        load(str(tmp_path), "train")


def test_a_table_whose_first_rows_are_missing_files_is_still_recognised(tmp_path):
    rows = [(f"gone{number}", "cat") for number in range(100)] + [(str(number), "dog") for number in range(200)]
    tree(tmp_path, {f"{number}.png": 7 for number in range(200)} | {"labels.csv": csv(rows)})
    assert len(scan(str(tmp_path)).parts["all"]) == 200


def test_images_without_a_part_in_the_column_of_parts_are_for_training(tmp_path):
    rows = "1.png,a,train\n2.png,a,TEST\n3.png,b,\n"
    tree(tmp_path, {f"{number}.png": number for number in (1, 2, 3)} | {"labels.csv": f"file,label,split\n{rows}"})
    assert both(tmp_path) == ({"a": [1], "b": [3]}, {"a": [2]})
