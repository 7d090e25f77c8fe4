"""A source written as files and read back."""

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataError, PixelRules, convert, export, load, scan
from fedlmd.progress import Progress
from tests.data.samples import COLOURS, RAMP, content, encode, tree


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
    finish("rgb.npz", tmp_path / "out", root=tmp_path)
    read = load(str(tmp_path / "out"), "all", rules=PixelRules(channels=3))
    assert np.array_equal(read.pixels.numpy(), x.transpose(0, 3, 1, 2))


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
    finish("mnist", tmp_path, rules=PixelRules(32), labels=["1"], limit=1)
    with Image.open(tmp_path / "train" / "1" / "00000.png") as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))


def test_without_parts_to_evaluate_on_the_labels_lie_at_the_top(tmp_path):
    tree(tmp_path / "in", {"a/1.png": 1, "a/2.png": 2, "b/1.png": 3})
    finish("in", tmp_path / "out", root=tmp_path)
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert files == ["a/00000.png", "a/00001.png", "b/00002.png"]
    assert content(tmp_path / "out", "all") == content(tmp_path / "in", "all") == {"a": [1, 2], "b": [3]}


KEPT = {
    "grey.png": encode(Image.fromarray(RAMP)),
    "colour.png": encode(Image.fromarray(COLOURS)),
    "large.bmp": encode(Image.new("RGB", (60, 40), (9, 90, 200)), "BMP"),
    "transparent.png": encode(Image.fromarray(np.dstack([COLOURS, RAMP]))),
    "grey transparent.png": encode(Image.fromarray(np.dstack([RAMP, 255 - RAMP]))),
    "palette.png": encode(Image.fromarray(COLOURS).quantize(9), transparency=bytes([0, 128, 255])),
    "deep.png": encode(Image.fromarray(RAMP.astype(np.uint16) * 16)),
    "floats.tif": encode(Image.fromarray(RAMP / np.float32(255)), "TIFF"),
    "below zero.tif": encode(Image.fromarray(RAMP.astype(np.int32) - 1000), "TIFF"),
    "cmyk.tif": encode(Image.fromarray(COLOURS).convert("CMYK"), "TIFF"),
    "bilevel.gif": encode(Image.fromarray(RAMP > 127), "GIF"),
}


@pytest.mark.parametrize("name", KEPT)
def test_an_image_that_is_kept_as_it_is_becomes_the_same_pixels_by_any_rules(tmp_path, name):
    tree(tmp_path / "in", {f"a/{name}": KEPT[name]})
    finish("in", tmp_path / "out", root=tmp_path)
    (written,) = scan(str(tmp_path / "out")).parts["all"].paths
    with open(written, "rb") as file:
        data = file.read()
    for rules in (
        PixelRules(channels=3, window=(-1000.0, 4095.0)),
        PixelRules(16, background="white", window=(0.0, 1.0)),
    ):
        assert torch.equal(convert(data, rules).pixels, convert(KEPT[name], rules).pixels)


def test_damaged_images_are_passed_over_with_a_warning(tmp_path, caplog):
    tree(tmp_path / "in", {"a/1.png": 1, "a/2.png": b"broken", "a/3.png": 3})
    assert len(finish("in", tmp_path / "out", root=tmp_path)) == 3
    assert content(tmp_path / "out", "all") == {"a": [1, 3]}
    assert "1 passed over: an image that cannot be decoded" in caplog.text


def test_deep_images_of_several_channels_need_rules(tmp_path, caplog):
    np.savez(tmp_path / "deep.npz", x=np.full((2, 28, 28, 3), 999, np.uint16), y=np.array([0, 1]))
    finish("deep.npz", tmp_path / "out", root=tmp_path)
    assert "more than 8 bits in several channels cannot be written" in caplog.text
    finish("deep.npz", tmp_path / "converted", root=tmp_path, rules=PixelRules(window=(0.0, 999.0)))
    assert content(tmp_path / "converted", "all") == {"0": [255], "1": [255]}


def test_a_label_that_is_too_long_for_a_folder_is_refused(tmp_path):
    np.savez(tmp_path / "long.npz", x=np.zeros((2, 8, 8), np.uint8), y=np.array(["a", "ä" * 128]))
    with pytest.raises(DataError, match="cannot be the name of a folder; rename it"):
        list(export(str(tmp_path / "long.npz"), tmp_path / "out"))
