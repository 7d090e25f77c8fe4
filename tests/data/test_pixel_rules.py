"""What becomes of an image's pixels by the rules of a run."""

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataError, PixelRules, convert, decode_image
from fedlmd.data.images import ImageError
from fedlmd.data.pixel_rules import CLIPPED, COLOUR, CROPPED, PADDED, SCALED, STRETCHED, WINDOWED, convert_array
from tests.data.samples import COLOURS, RAMP, encode, glyph

GREY = PixelRules()
RGB = PixelRules(channels=3)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_grey_image_of_the_right_size_keeps_every_pixel(file_format):
    pixels, changes = convert(encode(Image.fromarray(RAMP), file_format), GREY)
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.numpy(), RAMP[None])
    assert changes == ()


@pytest.mark.parametrize(
    ("file_format", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
def test_a_colour_image_of_the_right_size_keeps_every_pixel(file_format, options):
    pixels, changes = convert(encode(Image.fromarray(COLOURS), file_format, **options), RGB)
    assert np.array_equal(pixels.numpy(), COLOURS.transpose(2, 0, 1))
    assert changes == ()


def test_a_jpeg_comes_close():
    decoded = decode_image(encode(Image.fromarray(RAMP), "JPEG", quality=95), GREY)
    assert np.abs(decoded.numpy()[0].astype(int) - RAMP).max() <= 8


def test_a_large_jpeg_that_is_decoded_at_a_fraction_of_its_size_comes_close_to_the_whole():
    columns, rows = np.meshgrid(np.linspace(0, 6, 900), np.linspace(0, 9, 900))
    photograph = Image.fromarray(((np.sin(columns) * np.cos(rows) + 1) * 127).astype(np.uint8))
    from_jpeg = decode_image(encode(photograph, "JPEG", quality=100), GREY).numpy().astype(int)
    from_png = decode_image(encode(photograph), GREY).numpy().astype(int)
    assert np.abs(from_jpeg - from_png).max() <= 6


def test_a_bilevel_image_is_black_and_white():
    decoded = decode_image(encode(Image.fromarray(RAMP > 127)), GREY)
    assert np.array_equal(decoded.numpy()[0], np.where(RAMP > 127, 255, 0))


def test_a_palette_is_looked_up():
    image = Image.fromarray((RAMP // 128).astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    decoded = decode_image(encode(image), RGB)
    assert decoded[:, 0, 0].tolist() == [10, 20, 30]
    assert decoded[:, -1, -1].tolist() == [200, 100, 50]


def test_grey_becomes_three_equal_channels_and_colour_its_luma():
    assert np.array_equal(decode_image(encode(Image.fromarray(RAMP)), RGB).numpy(), np.stack([RAMP] * 3))
    red, changes = convert(encode(Image.new("RGB", (28, 28), (255, 0, 0))), GREY)
    assert red.unique().tolist() == [76]  # 0.299 * 255, ITU-R 601
    assert changes == (COLOUR,)


def test_an_rgb_file_without_colour_becomes_grey_without_a_word():
    assert convert(encode(Image.fromarray(np.stack([RAMP] * 3, -1))), GREY).changes == ()


def test_cmyk_is_converted():
    cyan = decode_image(encode(Image.new("CMYK", (28, 28), (255, 0, 0, 0)), "JPEG", quality=100), RGB)
    assert torch.allclose(cyan[:, 14, 14].float(), torch.tensor([0.0, 255.0, 255.0]), atol=3)


def test_sixteen_bit_grey_is_scaled_down_and_not_clipped():
    pixels, changes = convert(encode(Image.fromarray(RAMP.astype(np.uint16) * 257)), GREY)
    assert np.array_equal(pixels.numpy()[0], RAMP)
    assert changes == (WINDOWED,)


@pytest.mark.parametrize(
    ("values", "window", "expected", "clipped"),
    [
        (np.array([[0, 2048, 4095]], np.uint16), (0.0, 4095.0), [0, 128, 255], False),
        (np.array([[0, 2048, 9999]], np.uint16), (0.0, 4095.0), [0, 128, 255], True),
        (np.array([[-1024, 0, 1024]], np.int32), (-1024.0, 1024.0), [0, 128, 255], False),
        (np.array([[-2000.0, 40.0]]), (-1000.0, 1000.0), [0, 133], True),
        (np.array([[0.0, 0.5, 1.0]], np.float32), None, [0, 128, 255], False),
        (np.array([[0, 65535]], np.int64), None, [0, 255], False),
    ],
)
def test_the_window_becomes_black_to_white(values, window, expected, clipped):
    square = np.repeat(values, values.shape[1], 0)
    pixels, changes = convert(square, PixelRules(size=values.shape[1], window=window))
    assert pixels[0, 0].tolist() == expected
    assert (CLIPPED in changes) == clipped


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_finite_numbers_are_refused(value):
    with pytest.raises(ImageError, match="not finite numbers"):
        decode_image(np.full((28, 28), value), GREY)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_of_one_to_four_channels_become_grey_or_rgb(channels, dtype):
    top = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    image = np.full((28, 28, channels), top, dtype)
    for rules in (GREY, RGB):
        pixels = decode_image(image, rules)
        assert pixels.shape == (rules.channels, 28, 28)
        assert pixels.unique().tolist() == [255]


def test_an_array_of_truth_values_is_black_and_white():
    assert decode_image(RAMP > 127, GREY)[0].numpy().tolist() == np.where(RAMP > 127, 255, 0).tolist()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("LA", (28, 28), (255, 0)), 0),
        (Image.new("LA", (28, 28), (255, 128)), 128),
        (Image.new("LA", (28, 28), (200, 255)), 200),
        (Image.new("RGBA", (28, 28), (255, 255, 255, 0)), 0),
        (Image.new("RGBA", (28, 28), (255, 255, 255, 51)), 51),
        (Image.new("RGBA", (28, 28), (9, 9, 9, 255)), 9),
    ],
)
def test_transparency_is_composited_over_black(image, expected):
    pixels, changes = convert(encode(image), GREY)
    assert pixels.unique().tolist() == [expected]
    assert changes == ("transparent, laid over black",)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_ink_that_its_background_hides_is_said(mode):
    page = Image.new(mode, (28, 28), (0,) * len(mode))
    page.paste((0,) * (len(mode) - 1) + (255,), (10, 5, 14, 20))
    assert convert(encode(page), GREY).changes == ("transparent, laid over black, and blank there",)
    assert convert(encode(page), PixelRules(background="white")).changes == ("transparent, laid over white",)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_counts_as_the_background(mode):
    white = {"P": 1, "L": 255, "RGB": (255, 255, 255), "1": 1}[mode]
    image = Image.new(mode, (28, 28), white)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255])
    assert decode_image(encode(image, transparency=white), GREY).unique().tolist() == [0]
    assert decode_image(encode(image, transparency=white), PixelRules(background="white")).unique().tolist() == [255]


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA", "P"])
@pytest.mark.parametrize(("value", "background"), [(0, "white"), (255, "black")])
def test_ink_on_a_transparent_page_is_seen_on_the_other_background(mode, value, background):
    ink = glyph()
    decoded = decode_image(transparent(ink, value, mode), PixelRules(background=background))[0].numpy()
    assert np.array_equal(decoded, np.where(ink, value, 255 - value))


def transparent(ink, value, mode):
    """A file with ink of one grey level on a transparent page."""
    alpha = np.where(ink, 255, 0).astype(np.uint8)
    grey = np.full_like(alpha, value)
    if mode == "P":  # two entries of the palette, the second transparent
        image = Image.fromarray((~ink).astype(np.uint8)).convert("P")
        image.putpalette([value] * 6)
        return encode(image, transparency=bytes([255, 0]))
    if mode == "PA":
        image = Image.new("PA", ink.shape)
        image.putpalette([value] * 768)
        image.putalpha(Image.fromarray(alpha))
        return encode(image, "TIFF")
    channels = [grey, alpha] if mode == "LA" else [grey, grey, grey, alpha]
    return encode(Image.fromarray(np.dstack(channels)))


def test_inversion_exchanges_black_and_white_at_the_end():
    ink = np.where(glyph(), 0, 255).astype(np.uint8)
    decoded = decode_image(encode(Image.fromarray(ink)), PixelRules(invert=True))[0].numpy()
    assert np.array_equal(decoded, 255 - ink)


def test_a_wide_image_gets_black_bars_above_and_below():
    pixels, changes = convert(encode(Image.new("L", (56, 28), 255)), GREY)
    assert pixels[0, 7:21].unique().tolist() == [255]
    assert pixels[0, :7].unique().tolist() == pixels[0, 21:].unique().tolist() == [0]
    assert changes == (PADDED,)


def test_bars_have_the_colour_of_the_background():
    decoded = decode_image(encode(Image.new("L", (28, 56), 9)), PixelRules(background="white"))[0]
    assert decoded[:, 7:21].unique().tolist() == [9]
    assert decoded[:, :7].unique().tolist() == decoded[:, 21:].unique().tolist() == [255]


def test_the_centre_is_cut_out_or_the_image_stretched_where_the_rules_say_so():
    stripes = np.repeat(np.array([10, 100, 200], np.uint8), 28)[None].repeat(28, 0)
    centre, cut = convert(encode(Image.fromarray(stripes)), PixelRules(fit="crop"))
    assert centre.unique().tolist() == [100]
    assert cut == (CROPPED,)
    whole, stretched = convert(encode(Image.fromarray(stripes)), PixelRules(fit="stretch"))
    assert whole[0, 14, [0, 14, 27]].tolist() == [10, 100, 200]
    assert stretched == (STRETCHED,)


@pytest.mark.parametrize("side", [1, 3, 14, 29, 500])
def test_resizing_keeps_a_flat_image_flat(side):
    pixels, changes = convert(encode(Image.new("RGB", (side, side), (9, 90, 200))), RGB)
    assert pixels.unique(dim=1).unique(dim=2).flatten().tolist() == [9, 90, 200]
    assert changes == (SCALED,)


def test_shrinking_leaves_no_ringing_around_a_stroke():
    canvas = np.zeros((280, 280), dtype=np.uint8)
    canvas[:, 100:140] = 255
    decoded = decode_image(encode(Image.fromarray(canvas)), GREY)[0]
    assert decoded[:, :9].max() == decoded[:, 15:].max() == 0
    assert decoded[:, 11:13].min() == 255


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000)])
def test_a_sliver_is_fitted_without_a_square_of_its_length(size, fit):
    assert decode_image(encode(Image.new("L", size, 255)), PixelRules(fit=fit)).shape == (1, 28, 28)


@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_that_are_decoded_already_follow_the_rules_of_files(channels):
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, channels, 20, 40), dtype=np.uint8))
    for rules in (GREY, RGB, PixelRules(16, background="white", invert=True), PixelRules(fit="crop")):
        files = [encode(Image.fromarray(image.permute(1, 2, 0).numpy().squeeze())) for image in pixels]
        assert torch.equal(convert_array(pixels, rules), torch.stack([decode_image(file, rules) for file in files]))


def test_arrays_of_two_channels_that_are_decoded_already_are_refused():
    with pytest.raises(DataError, match="must have 1 or 3 channels, not 2"):
        convert_array(torch.zeros(1, 2, 28, 28, dtype=torch.uint8), GREY)


@pytest.mark.parametrize(("size", "channels"), [(0, 1), (28, 2)])
def test_an_impossible_shape_is_refused(size, channels):
    with pytest.raises(DataError, match="1 or 3 channels"):
        PixelRules(size, channels)
