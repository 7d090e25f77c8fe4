import gc
import tracemalloc
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import Catalogue, DataConfig, scan, survey
from fedlmd.data.catalogue import ArrayPart
from fedlmd.data.check import measure as measure_module
from fedlmd.data.check.measure import measure, measure_all, same_form
from fedlmd.data.facts import facts_of, look
from fedlmd.progress import drain

rng = np.random.default_rng(0)
GREY = rng.integers(0, 256, (12, 20), dtype=np.uint8)
COLOUR = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def encoded(pixels, kind, mode=None, **options):
    image, stream = Image.fromarray(pixels), BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "copy",
    [
        encoded(GREY, "BMP"),
        encoded(GREY, "GIF"),
        encoded(GREY, "PNG", "RGB"),
        encoded(GREY, "TIFF"),
        encoded(GREY, "PNG", compress_level=0),
        GREY,
        GREY[..., None],
    ],
)
def test_a_copy_in_another_format_has_the_same_hash(copy):
    assert measure(copy).pixels == measure(encoded(GREY, "PNG")).pixels


@pytest.mark.parametrize("other", [GREY.T, GREY[::-1], np.bitwise_xor(GREY, 1), GREY.reshape(20, 12), COLOUR])
def test_other_pixels_or_another_shape_have_another_hash(other):
    assert measure(np.ascontiguousarray(other)).pixels != measure(GREY).pixels


def test_values_of_another_type_are_no_copy():
    assert measure(GREY.astype(np.uint16)).pixels != measure(GREY).pixels


@pytest.mark.parametrize(
    "raw",
    [
        encoded(GREY, "PNG"),
        encoded(COLOUR, "PNG"),
        encoded(COLOUR, "JPEG"),
        encoded(COLOUR, "JPEG", "CMYK"),
        encoded(COLOUR, "GIF"),
        encoded(COLOUR, "PNG", "RGBA"),
        encoded(COLOUR, "PNG", "P", transparency=3),
        encoded(GREY, "PNG", "1"),
        encoded(GREY, "PNG", "LA"),
        encoded(GREY.astype(np.uint16) * 200, "PNG"),
        encoded(GREY.astype(np.float32), "TIFF"),
    ],
)
def test_an_image_looks_as_it_does_to_the_survey(raw):
    assert measure(raw).look == look(raw)


def test_pixels_of_a_palette_and_of_two_levels_take_a_plain_form():
    assert same_form(Image.fromarray(COLOUR).convert("P")).shape == (12, 20, 3)
    assert same_form(Image.fromarray(GREY).convert("1")).shape == (12, 20)


def test_the_statistics_are_those_of_the_grey_levels():
    half = np.zeros((8, 16), dtype=np.uint8)
    half[:, 8:] = 255
    brightness, contrast, sharpness, side, aspect, colour = measure(half).numbers
    assert (brightness, contrast, side, aspect, colour) == (0.5, 0.5, 8, 1, 0)
    # Two of the 14 inner columns lie at the edge, where the Laplacian is 1.
    assert sharpness == pytest.approx(2 / 14 / 0.5)


def test_colour_is_the_difference_of_the_channels():
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = 204
    assert measure(red).numbers[-1] == pytest.approx(0.8)


def test_transparent_pixels_count_as_black_whatever_colour_they_hide():
    hidden = np.full((8, 8, 4), 255, dtype=np.uint8)
    hidden[:4, :, 3] = 0
    assert measure(hidden).numbers[0] == pytest.approx(0.5)


def test_an_image_of_one_row_has_no_sharpness():
    assert measure(GREY[:1]).numbers[2] == 0


def folder_of(path, images):
    for name, pixels in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / name)
    return str(path)


def test_rows_follow_the_order_of_the_source_and_the_part_that_a_run_splits_off(tmp_path):
    images = {f"{label}/{n}.png": rng.integers(0, 256, (5, 4 + n), dtype=np.uint8) for label in "ab" for n in range(70)}
    catalogue = scan(folder_of(tmp_path, images))
    measured = drain(measure_all(catalogue, 0.2))
    assert measured.rows["width"].tolist() == [4 + n for n in range(70)] * 2
    assert measured.rows["label"].tolist() == [0] * 70 + [1] * 70
    held = [measured.images.name(place) for place in np.flatnonzero(measured.rows["evaluation"]).tolist()]
    part = catalogue.part("eval", 0.2)
    assert held == [part.name(index) for index in range(len(part))]
    assert (measured.suffixes, measured.modes) == ([".png"], ["L"])


def test_rules_are_chosen_from_the_same_sample_as_in_a_run(tmp_path):
    images = rng.integers(0, 256, (900, 9, 7), dtype=np.uint8)
    images[:300] //= 20
    np.savez(tmp_path / "many.npz", x=images, y=np.arange(900) % 2)
    measured = drain(measure_all(scan(str(tmp_path / "many.npz")), 0.2))
    assert facts_of(measured.looks) == survey(str(tmp_path / "many.npz"), config=DataConfig()).facts
    assert len(measured.looks) == 400


def test_an_image_that_cannot_be_decoded_keeps_its_row(tmp_path):
    folder_of(tmp_path, {"a/1.png": GREY, "a/3.png": GREY, "b/1.png": COLOUR})
    (tmp_path / "a" / "2.png").write_bytes(b"no image")
    measured = drain(measure_all(scan(str(tmp_path)), 0.2))
    assert measured.rows["readable"].tolist() == [True, False, True, True]
    assert len(measured.damaged) == 1
    [example] = measured.damaged.examples.values()
    assert example == str(tmp_path / "a" / "2.png")


def test_of_each_image_only_some_numbers_are_kept(monkeypatch):
    monkeypatch.setattr(measure_module, "SAMPLE", 10)

    def memory_kept(count):
        images = np.broadcast_to(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), (count, 64, 64, 3))
        catalogue = Catalogue("many", ("a",), {"all": ArrayPart(images, np.zeros(count, dtype=np.int64), "many")})
        tracemalloc.start()
        measured = drain(measure_all(catalogue, 0.2))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(measured.rows) == count
        return kept

    memory_kept(10)  # what is loaded at the first image
    few, many = memory_kept(100), memory_kept(300)
    assert (many - few) / 200 < 200
