import os

import pytest

from fedlmd.cli import image_files as module
from fedlmd.cli.image_files import ImageFile, image_bytes, image_files, listed_paths
from fedlmd.data import DataError, PassedOver


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder "scans" with images, what is none, and folders of the system."""
    monkeypatch.chdir(tmp_path)
    for name in ("10.png", "9.png", "deep/b.JPG", "notes.txt", "labels.csv", ".hidden.png", "__MACOSX/9.png"):
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    return tmp_path


def listed(*paths, **options):
    return list(image_files(paths, PassedOver(), **options))


@pytest.mark.usefixtures("folder")
def test_a_folder_gives_its_images_in_natural_order_and_counts_the_rest():
    passed_over = PassedOver()
    files = list(image_files(["scans"], passed_over))
    assert files == [ImageFile("scans/9.png"), ImageFile("scans/10.png"), ImageFile("scans/deep/b.JPG")]
    assert sorted(passed_over.counts.values()) == [1, 1, 2]
    assert "1 passed over: a table (such as labels.csv)" in passed_over.sentences()


@pytest.mark.usefixtures("folder")
def test_a_pattern_that_no_shell_expanded_gives_its_files_in_natural_order():
    assert [file.name for file in listed("scans/*.png")] == ["scans/9.png", "scans/10.png"]
    assert [file.name for file in listed("scans/**/b.*")] == ["scans/deep/b.JPG"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder):
    (folder / "a[1].png").write_bytes(b"x")
    assert listed("a[1].png") == [ImageFile("a[1].png")]
    assert listed("a[2].png", patterns=False) == [ImageFile("a[2].png", "there is no such file")]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("none.png", "there is no such file"),
        ("gone.png", "it is a link to a file that does not exist"),
        ("empty", "the folder holds no image"),
        ("*.gif", "no file matches this pattern"),
        ("", "an empty path names no file"),
        ("scans/9.png/x.png", "it cannot be read: Not a directory"),
        ("n" * 5000, "it cannot be read: File name too long"),
    ],
)
def test_a_path_without_an_image_says_why(path, problem):
    assert listed(path) == [ImageFile(path, problem)]


def test_a_folder_that_cannot_be_listed_says_so(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert listed("scans") == [ImageFile("scans", "scans cannot be listed: Permission denied")]


def test_a_list_names_a_path_on_each_line_of_unix_or_windows(folder):
    (folder / "list.txt").write_bytes("a b.png\r\n\nü*.png\n-".encode())
    assert listed_paths("list.txt", null=False) == ["a b.png", "ü*.png", "./-"]


def test_a_list_with_zero_bytes_holds_names_with_new_lines(folder):
    (folder / "list").write_bytes(b"a\nb.png\0\xff.png\0")
    assert listed_paths("list", null=True) == ["a\nb.png", "\udcff.png"]


def test_a_file_of_any_size_takes_bounded_memory(folder, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 2**20)
    with (folder / "large.png").open("wb") as file:
        file.truncate(2**20 + 1)
    with pytest.raises(DataError, match="it has more than 1 MiB; scale it down first"):
        image_bytes("large.png")
    with pytest.raises(DataError, match="it cannot be read: No such file"):
        image_bytes("none.png")
