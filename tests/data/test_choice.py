"""The rules that are chosen for a run whose images were looked at."""

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import Facts, ImagesConfig, PixelRules, choose_rules, decode_image
from fedlmd.data.facts import facts_of, look
from tests.data.samples import RAMP, encode, glyph, on_transparent


def chosen(*raw, size="auto", channels="auto", **config):
    """The rules for these images, and what is said of them."""
    choice = choose_rules(size, channels, ImagesConfig(**config), [facts_of([look(each) for each in raw])])
    return choice.rules, " | ".join(choice.notes)


def test_without_images_the_rules_are_those_of_the_digits():
    assert choose_rules("auto", "auto", ImagesConfig()).rules == PixelRules()
    assert choose_rules("auto", "auto", ImagesConfig(), [Facts()]).notes == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "1"])
@pytest.mark.parametrize(("ink", "background"), [(0, "white"), (255, "black")])
def test_ink_on_a_transparent_page_is_laid_over_the_background_that_shows_it(mode, ink, background):
    raw = on_transparent(ink, mode)
    rules, notes = chosen(raw)
    assert rules == PixelRules(background=background)
    assert f"100% of the images are transparent and are laid over {background}" in notes
    assert np.array_equal(decode_image(raw, rules)[0].numpy(), np.where(glyph(), ink, 255 - ink))


def test_dark_and_light_ink_together_are_pointed_out():
    rules, notes = chosen(on_transparent(0), on_transparent(0), on_transparent(255))
    assert rules.background == "white"
    assert "67% of the transparent images have dark ink and the others light ink: some can hardly be seen" in notes


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_whole_numbers_keep_at_least_two_hundred_grey_levels_whatever_their_bits(bits, file_format):
    values = np.linspace(0, 2**bits - 1, 4096).round().astype(np.uint16).reshape(64, 64)
    raw = encode(Image.fromarray(values), file_format)
    rules, notes = chosen(raw, size=64)
    assert rules.window == (0, 2**bits - 1)
    assert f"their values 0 to {2**bits - 1:g} become black to white" in notes
    assert len(decode_image(raw, rules).unique()) >= 200


@pytest.mark.parametrize(
    ("low", "high", "window"),
    [
        (0.0, 1.0, (0, 1)),
        (0.0, 0.9, (0, 1)),
        (0.0, 1.004, (0, 1)),
        (0.0, 255.0, (0, 255)),
        (0.0, 255.6, (0, 255)),
        (0.0, 0.004, (0, 0.004)),
        (0.0, 16.0, (0, 16)),
        (-1.0, 1.0, (-1, 1)),
        (-1024.0, 3071.0, (-1024, 3071)),
        (-0.03, 1.02, (-0.03, 1.02)),
        (30_000.0, 32_000.0, (30_000, 32_000)),
        (0.0, 4.0e9, (0, 2**32 - 1)),
        (3.0e9, 4.0e9, (3.0e9, 4.0e9)),
        (-9.0e14, 9.0e14, (-9.0e14, 9.0e14)),
    ],
)
def test_floats_get_a_window_in_which_they_keep_their_grey_levels(low, high, window):
    values = np.linspace(low, high, 4096, dtype=np.float32).reshape(64, 64)
    raw = encode(Image.fromarray(values), "TIFF")
    rules, _ = chosen(raw, size=64)
    assert rules.window == pytest.approx(window)
    assert len(decode_image(raw, rules).unique()) >= 200


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("top", [1, 16, 255])
def test_small_whole_numbers_of_a_wide_type_do_not_become_black(dtype, top):
    values = np.where(glyph(), top, 0).astype(dtype)
    rules, _ = chosen(values)
    assert np.array_equal(decode_image(values, rules)[0].numpy(), np.where(glyph(), 255, 0))


def test_images_of_eight_bits_get_no_window():
    assert chosen(encode(Image.fromarray(RAMP)))[0].window is None


@pytest.mark.parametrize(("window", "expected"), [("full", None), ((0.0, 99.0), (0.0, 99.0))])
def test_a_window_that_is_set_is_taken(window, expected):
    assert chosen(RAMP.astype(np.uint16), window=window)[0].window == expected


@pytest.mark.parametrize("value", [0, 5])
def test_constant_deep_images_get_a_window(value):
    rules, _ = chosen(np.full((28, 28), value, np.int32))
    assert decode_image(np.full((28, 28), value, np.int32), rules).shape == (1, 28, 28)


def test_wide_images_on_a_white_page_get_white_bars():
    page = np.full((28, 56), 255, np.uint8)
    page[10:18, 20:36] = 0
    rules, notes = chosen(encode(Image.fromarray(page)))
    assert (rules.fit, rules.background) == ("pad", "white")
    assert "100% of the images are not square and get white bars" in notes
    assert decode_image(encode(Image.fromarray(page)), rules)[0, :7].unique().tolist() == [255]


@pytest.mark.parametrize(("wide", "square", "fit"), [("page", "noise", "pad"), ("noise", "page", "crop")])
def test_images_that_are_not_square_decide_alone_whether_they_are_cut(wide, square, fit):
    drawn = {
        "page": np.full((40, 60), 255, np.uint8),
        "noise": np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8),
    }
    wide, square = encode(Image.fromarray(drawn[wide])), encode(Image.fromarray(drawn[square][:, :40]))
    assert chosen(wide, wide, square, square, square)[0].fit == fit


def test_photographs_are_cut_to_their_centre():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    rules, notes = chosen(encode(Image.fromarray(noise)))
    assert (rules.fit, rules.channels, rules.size) == ("crop", 3, 32)
    assert "100% of the images are not square and are cut to their centre" in notes
    assert "images are brought from 40 to 32 pixels" in notes


def test_a_fit_and_a_background_that_are_set_are_taken():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60), dtype=np.uint8)
    rules, notes = chosen(encode(Image.fromarray(noise)), fit="stretch", background="white", invert=True)
    assert (rules.fit, rules.background, rules.invert) == ("stretch", "white", True)
    assert "are stretched (images.fit)" in notes


RED, GREY = (encode(Image.new("RGB", (28, 28), colour)) for colour in ((255, 0, 0), (9, 9, 9)))


@pytest.mark.parametrize(
    ("red", "grey", "channels", "expected", "note"),
    [
        (1, 0, "auto", 3, None),
        (0, 1, "auto", 1, None),
        (300, 1, "auto", 3, "more than 99% of the images are in colour; all are read as RGB"),
        (1, 99, "auto", 1, "1% of the images are in colour; all are read as grey (channels = 3 changes that)"),
        (1, 300, "auto", 1, "less than 1% of the images are in colour; all are read as grey"),
        (10, 90, "auto", 3, "10% of the images are in colour; all are read as RGB (channels = 1 changes that)"),
        (1, 0, 1, 1, "100% of the images are in colour and are read as grey (channels = 3 keeps colour)"),
        (0, 1, 3, 3, None),
    ],
)
def test_colour_is_kept_where_a_share_of_the_images_has_it(red, grey, channels, expected, note):
    looks = [look(RED)] * red + [look(GREY)] * grey
    choice = choose_rules(28, channels, ImagesConfig(), [facts_of(looks)])
    assert choice.rules.channels == expected
    assert any(note in said for said in choice.notes) if note else choice.notes == ()


@pytest.mark.parametrize(
    ("side", "multiple", "expected"),
    [(28, 4, 28), (8, 4, 16), (30, 4, 28), (224, 4, 32), (3000, 4, 32), (28, 8, 24), (28, 64, 64)],
)
def test_the_size_is_a_multiple_that_the_networks_take(side, multiple, expected):
    choice = choose_rules("auto", 1, ImagesConfig(), [Facts(images=1, side=float(side))], multiple)
    assert choice.rules.size == expected
    assert (f"from {side} to {expected} pixels" in " ".join(choice.notes)) == (side != expected)


def test_workers_whose_backgrounds_differ_are_pointed_out():
    light, dark = Facts(images=5, light=1.0), Facts(images=5)
    assert "a light background and others' a dark one" in " ".join(
        choose_rules(28, 1, ImagesConfig(), [light, dark]).notes
    )
    assert choose_rules(28, 1, ImagesConfig(), [light, light]).notes == ()
