"""The files below a folder: links, depth, and names that mean no harm and those that do."""

import logging
import os

import pytest
from PIL import Image

from fedlmd.data import DataConfig, DataError, load, scan
from fedlmd.data.images import ImageError
from tests.data.samples import COLOURS, content, encode, paint, tree

FILES = {"2/a.png": 20, "10/9.png": 109, "10/10.png": 110}


@pytest.fixture
def flat(tmp_path):
    return tree(tmp_path / "flat", FILES)


def reasons(folder, **options):
    return dict(scan(str(folder), **options).passed_over.counts)


LINKED = "a link to a file or folder that is read already"


@pytest.mark.parametrize("name", ["0", "3"])
def test_a_link_to_a_label_folder_is_no_second_label(flat, name):
    (flat / name).symlink_to(flat / "2")
    assert content("flat", "all", root=flat.parent) == content(flat, "all") == {"2": [20], "10": [109, 110]}
    assert reasons(flat) == {LINKED: 1}


def test_a_link_to_an_image_that_is_read_is_no_second_image(flat):
    (flat / "2" / "0.png").symlink_to(flat / "2" / "a.png")
    (flat / "10" / "0.png").symlink_to("../2/a.png")
    assert content(flat, "all") == {"2": [20], "10": [109, 110]}
    assert reasons(flat) == {LINKED: 2}


def test_links_that_lead_in_a_circle_are_passed_over(flat):
    (flat / "2" / "up").symlink_to("..")
    (flat / "2" / "here").symlink_to(".")
    (flat / "10" / "root").symlink_to("/")
    os.symlink("itself", flat / "10" / "itself")
    assert content(flat, "all") == {"2": [20], "10": [109, 110]}
    assert reasons(flat) == {LINKED: 3, "neither a file nor a folder, such as a broken link": 1}


def test_links_to_files_elsewhere_are_followed_once(flat, tmp_path):
    paint(tmp_path / "pool" / "1.png", 77)
    (flat / "2" / "b.png").symlink_to(tmp_path / "pool" / "1.png")
    (flat / "2" / "c.png").symlink_to(tmp_path / "pool" / "1.png")
    (flat / "3").symlink_to(tmp_path / "pool")
    (flat / "4").symlink_to(tmp_path / "pool")
    assert content(flat, "all") == {"2": [20, 77], "3": [77], "10": [109, 110]}
    assert reasons(flat) == {LINKED: 2}


def test_links_to_hidden_files_of_the_same_folder_are_followed(tmp_path):
    """As git-annex keeps files."""
    paint(tmp_path / ".git" / "annex" / "1.png", 77)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").symlink_to("../.git/annex/1.png")
    assert content(tmp_path, "all") == {"cat": [77]}


@pytest.mark.parametrize("place", ["data/3", "data/2/secret.png", "data/train"])
def test_a_link_within_a_source_cannot_leave_the_data_root(tmp_path, flat, place):
    root = tmp_path / "root"
    paint(root / "data" / "2" / "a.png")
    target = flat / "2" / "a.png" if place.endswith(".png") else flat if place.endswith("train") else flat / "2"
    (root / place).symlink_to(target)
    assert len(load(str(root / "data"), "train")) >= 1  # without a root, links are the user's own affair
    with pytest.raises(DataError, match="leads outside the data root"):
        load("data", "train", root=root)


def test_folders_below_the_limit_are_passed_over(tmp_path):
    deep = tmp_path / "cat"
    for _ in range(200):
        deep /= "x"
    tree(tmp_path, {"cat/1.png": 1, "dog/" + "y/" * 10 + "1.png": 2})
    os.makedirs(deep)
    paint(deep / "1.png")
    assert content(tmp_path, "all") == {"cat": [1], "dog": [2]}
    assert reasons(tmp_path) == {"more than 12 folders deep": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_refused(flat):
    (flat / "2").chmod(0)
    try:
        with pytest.raises(DataError, match="2 cannot be listed: Permission denied"):
            load(str(flat), "train")
    finally:
        (flat / "2").chmod(0o700)


def test_a_pipe_is_not_waited_for(flat):
    os.mkfifo(flat / "2" / "pipe.png")
    assert reasons(flat) == {"neither a file nor a folder, such as a broken link": 1}


def test_empty_and_damaged_files_are_passed_over_with_a_warning(flat, caplog):
    tree(flat, {"2/empty.png": b"", "10/broken.png": b"broken", "10/cut.png": encode(Image.fromarray(COLOURS))[:-100]})
    assert content(flat, "all") == {"2": [20], "10": [109, 110]}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 3
    for file, reason in (("2/empty", "empty"), ("10/broken", "not a readable image"), ("10/cut", "truncated")):
        assert any(f"{flat}/{file}.png" in said and reason in said and "1 passed over" in said for said in warnings)


def test_a_damaged_file_is_refused_by_its_name_where_loading_is_strict(flat):
    tree(flat, {"10/cut.png": encode(Image.fromarray(COLOURS))[:-100]})
    with pytest.raises(ImageError, match=r"flat/10/cut\.png: the PNG image is truncated.*; strict is true"):
        load(str(flat), "all", config=DataConfig(strict=True))


def test_a_source_of_which_no_image_can_be_decoded_is_refused(tmp_path):
    tree(tmp_path, {"a/1.png": b"broken", "a/2.png": b"broken"})
    with pytest.raises(DataError, match=r"has no all image that can be decoded: 2 passed over: an image that cannot"):
        load(str(tmp_path), "all")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"README.md": "x"}, r"1 passed over: no image by its name \(.md\) \(such as README.md\); strict is true"),
        ({"3": None}, r"1 passed over: an empty folder \(such as 3\); strict is true"),
        ({"loose.png": 1}, r"1 passed over: images beside the label folders \(such as loose.png\); strict is true"),
        ({".DS_Store": "x", "@eaDir/1.png": 0, "2/Thumbs.db": "x"}, None),
    ],
)
def test_strict_refuses_what_is_passed_over_but_no_files_of_the_system(flat, extra, message):
    tree(flat, extra)
    config = DataConfig(strict=True)
    if message is None:
        assert len(load(str(flat), "all", config=config)) == 3
    else:
        with pytest.raises(DataError, match=message):
            load(str(flat), "all", config=config)


def test_what_is_passed_over_and_guessed_is_logged(flat, caplog):
    tree(flat, {"2/a.txt": "x", "3": None, "cat ": None, "cat /1.png": 5})
    caplog.set_level(logging.INFO, "fedlmd.data")
    load(str(flat), "all")
    logged = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ("WARNING", f"{flat}: 1 passed over: no image by its name (.txt) (such as 2/a.txt)") in logged
    assert ("WARNING", f"{flat}: 1 passed over: an empty folder (such as 3)") in logged
    assert ("INFO", f"{flat}: 'cat ' is the label 'cat'") in logged


def test_a_message_is_one_line_whatever_names_it_holds(flat, caplog):
    tree(flat, {"2/line\nbreak.txt": "x", "2/esc\x1b[31m.png": b"broken"})
    load(str(flat), "all")
    assert all(record.getMessage().isprintable() for record in caplog.records)
    with pytest.raises(DataError) as caught:
        load(str(flat), "all", config=DataConfig(strict=True))
    assert str(caught.value).isprintable()
