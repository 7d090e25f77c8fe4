"""A source written as files and read back."""

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataError, export, load
from fedlmd.progress import Progress


def finish(*args, **options):
    return list(export(*args, **options))


def test_what_was_exported_is_read_back_bit_for_bit(tmp_path):
    records = finish("mnist", tmp_path / "out", labels=["7", "2"], limit=30)
    assert records == [Progress("export", done, 120) for done in range(1, 121)]
    for split in ("train", "eval"):
        original = load("mnist", split, labels=["2", "7"])
        chosen = torch.cat([(original.labels == label).nonzero()[:30, 0] for label in (0, 1)])
        read = load("out", split, root=tmp_path)
        assert read.names == ("2", "7")
        assert torch.equal(read.labels, original.labels[chosen])
        assert torch.equal(read.pixels, original.pixels[chosen])


def test_colour_images_are_read_back_bit_for_bit(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 3), dtype=np.uint8)
    np.savez(tmp_path / "rgb.npz", x=x, y=np.repeat([0, 1], 3))
    finish("rgb.npz", tmp_path / "out", channels=3, root=tmp_path)
    assert np.array_equal(load(str(tmp_path / "out"), "eval", channels=3).pixels.numpy(), x.transpose(0, 3, 1, 2))


def test_files_are_named_by_split_label_and_index(tmp_path):
    finish("mnist", tmp_path, labels=["5"], limit=1)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["eval/5/00000.png", "train/5/00000.png"]


def test_nothing_stands_under_the_final_names_until_all_is_written_and_giving_up_cleans_up(tmp_path):
    progress = export("mnist", tmp_path / "out", labels=["5"], limit=3)
    assert next(progress) == Progress("export", 1, 6)
    assert not (tmp_path / "out" / "train").exists()
    progress.close()
    assert list((tmp_path / "out").iterdir()) == []
    assert len(finish("mnist", tmp_path / "out", labels=["5"], limit=3)) == 6


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_was(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"is not empty \(it holds thesis\.txt\)"):
        finish("mnist", tmp_path, limit=1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="is a file"):
        finish("mnist", tmp_path / "out", limit=1)


@pytest.mark.parametrize("label", ["../up", "a/b", ".hidden", ""])
def test_a_label_that_cannot_name_a_folder_is_refused(tmp_path, label):
    np.savez(tmp_path / "odd.npz", x=np.zeros((1, 28, 28), np.uint8), y=np.array([label]))
    with pytest.raises(DataError, match="cannot be the name of a folder"):
        finish(str(tmp_path / "odd.npz"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_limit_below_one_is_refused(tmp_path):
    with pytest.raises(DataError, match="limit for each label must be 1 or more"):
        finish("mnist", tmp_path / "out", limit=0)


def test_the_errors_of_the_source_pass_through(tmp_path):
    with pytest.raises(DataError, match="no label 'ten'"):
        finish("mnist", tmp_path / "out", labels=["ten"])
    assert not (tmp_path / "out").exists()


def test_any_viewer_opens_an_exported_file(tmp_path):
    finish("mnist", tmp_path, labels=["1"], limit=1, image_size=32)
    with Image.open(tmp_path / "train" / "1" / "00000.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))
