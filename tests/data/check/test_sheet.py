import numpy as np
import pytest
from PIL import Image

from fedlmd.data import PixelRules, scan
from fedlmd.data.check.copies import copies_of
from fedlmd.data.check.measure import measure_all
from fedlmd.data.check.sheet import (
    CELL,
    COLUMNS,
    INNER,
    MARGIN,
    MAT,
    OUTER,
    PAIR,
    SIDE,
    draw_sheet,
    in_cell,
    shown_label,
)
from fedlmd.progress import drain

rng = np.random.default_rng(0)
TOP = MARGIN + 74 + OUTER // 2
"""Where the pictures of the first row begin."""


def drawn(folder, file, rules=None):
    measured = drain(measure_all(scan(str(folder)), 0.2))
    file.parent.mkdir(exist_ok=True)
    drain(draw_sheet(measured, copies_of(measured.rows), rules or PixelRules(size=16), file))
    with Image.open(file) as sheet:
        return sheet.copy()


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(*shape):
    return rng.integers(0, 256, shape, dtype=np.uint8)


def cell(sheet, column, number, row_top=TOP):
    left = MARGIN + SIDE + column * (PAIR + OUTER) + number * (CELL + INNER)
    return np.asarray(sheet.crop((left, row_top, left + CELL, row_top + CELL)))


def test_each_image_is_shown_as_in_its_file_and_as_the_networks_see_it(tmp_path):
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    pixels[:, :16] = (255, 0, 0)
    put(tmp_path / "set" / "a" / "1.png", pixels)
    put(tmp_path / "set" / "b" / "1.png", noise(32, 32, 3))
    sheet = drawn(tmp_path / "set", tmp_path / "sheet.png", PixelRules(size=32, channels=1))
    before, after = cell(sheet, 0, 0), cell(sheet, 0, 1)
    assert (before[:, :32] == (255, 0, 0)).all()
    assert (after[:, :32] == 76).all()
    assert (after[:, 32:] == 0).all()


def test_a_sheet_is_narrower_than_2000_pixels_and_has_at_most_20_labels(tmp_path):
    for label in range(30):
        for number in range(12):
            put(tmp_path / "set" / f"{label}" / f"{number}.png", noise(8, 8))
    sheet = drawn(tmp_path / "set", tmp_path / "sheet.png")
    assert sheet.width == 2 * MARGIN + SIDE + COLUMNS * (PAIR + OUTER) - OUTER < 2000
    assert sheet.height < 2200


def test_the_same_source_gives_the_same_sheet(tmp_path):
    for label in "ab":
        for number in range(30):
            put(tmp_path / "set" / label / f"{number}.png", noise(8, 8))
    one, two = drawn(tmp_path / "set", tmp_path / "1.png"), drawn(tmp_path / "set", tmp_path / "new" / "2.png")
    assert (np.asarray(one) == np.asarray(two)).all()


@pytest.mark.parametrize("fault", ["blank", "copies", "damaged"])
def test_blank_images_copies_and_damaged_files_get_a_row_each(tmp_path, fault):
    for label in "ab":
        put(tmp_path / "set" / label / "1.png", noise(8, 8))
    plain = drawn(tmp_path / "set", tmp_path / "plain.png").height
    if fault == "blank":
        put(tmp_path / "set" / "a" / "2.png", np.full((8, 8), 9, dtype=np.uint8))
    elif fault == "copies":
        same = noise(8, 8)
        put(tmp_path / "set" / "a" / "2.png", same)
        put(tmp_path / "set" / "b" / "2.png", same)
    else:
        (tmp_path / "set" / "a" / "2.png").write_bytes(b"no image")
    assert drawn(tmp_path / "set", tmp_path / "sheet.png").height > plain


def test_names_of_labels_with_control_characters_or_of_any_length_are_drawn(tmp_path):
    put(tmp_path / "set" / ("a" * 200) / "1.png", noise(8, 8))
    put(tmp_path / "set" / "b\x1b[31m" / "1.png", noise(8, 8))
    sheet = drawn(tmp_path / "set", tmp_path / "sheet.png")
    gap = np.asarray(sheet.crop((MARGIN + SIDE - OUTER, TOP, MARGIN + SIDE, TOP + CELL)))
    assert (gap == 255).all()


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (64, 64), (65, 3), (3, 500), (300, 300)])
def test_an_image_of_any_size_lies_in_the_middle_of_its_cell(size):
    shown = in_cell(Image.new("RGB", size, "red"))
    assert shown.size == (CELL, CELL)
    inside = np.asarray(shown)[31:33, 31:33].reshape(-1, 3).tolist()
    assert [255, 0, 0] in inside


def test_a_label_that_no_font_can_draw_is_shown_by_its_number(tmp_path):
    put(tmp_path / "set" / "a b" / "1.png", noise(8, 8))
    put(tmp_path / "set" / "\U0001f4f7\U000e0021" / "1.png", noise(8, 8))
    measured = drain(measure_all(scan(str(tmp_path / "set")), 0.2))
    assert [shown_label(measured, label) for label in range(2)] == ["a b", "label 2"]


def test_transparent_parts_are_chequered():
    shown = np.asarray(in_cell(Image.new("RGBA", (64, 64), (0, 0, 0, 0))))
    assert set(shown.flatten().tolist()) == {214, 255}
    assert MAT == "#f2f3f5"
