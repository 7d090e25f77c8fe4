"""The image contract, and the decoding of untrusted bytes."""

import random
import struct
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataError, LabelledImages, decode_image, to_pixels, to_unit_range
from fedlmd.data.images import ImageError, fit_pixels

RAMP = np.linspace(0, 255, 28 * 28).astype(np.uint8).reshape(28, 28)
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=-1)


def encode(image, file_format="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def four_images():
    pixels = torch.arange(4, dtype=torch.uint8).reshape(4, 1, 1, 1).expand(4, 1, 2, 2).clone()
    return LabelledImages(pixels, torch.tensor([0, 1, 2, 1]), ("cat", "dog", "owl"))


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


def test_bytes_become_minus_one_to_one_and_every_byte_comes_back():
    every = torch.arange(256, dtype=torch.uint8)
    unit = to_unit_range(every)
    assert unit.dtype == torch.float32
    assert unit[[0, 255]].tolist() == [-1.0, 1.0]
    assert unit[51].item() == pytest.approx(-0.6)
    assert torch.equal(to_pixels(unit), every)


def test_values_outside_the_range_are_clipped_and_not_wrapped_around():
    assert to_pixels(torch.tensor([-7.0, -1.001, 1.001, 7.0])).tolist() == [0, 0, 255, 255]


def test_images_are_float_batches_of_all_or_of_the_wanted_positions():
    dataset = four_images()
    assert len(dataset) == 4
    assert dataset.images().shape == (4, 1, 2, 2)
    assert torch.equal(dataset.images([3, 0]), to_unit_range(dataset.pixels[[3, 0]]))
    assert torch.equal(dataset.images(np.array([2])), dataset.images(torch.tensor([2])))


def test_take_keeps_order_and_names():
    taken = four_images().take([3, 0])
    assert taken.pixels[:, 0, 0, 0].tolist() == [3, 0]
    assert taken.labels.tolist() == [1, 0]
    assert taken.names == ("cat", "dog", "owl")


def test_select_numbers_the_labels_in_the_order_of_the_list():
    chosen = four_images().select(["owl", "dog"])
    assert chosen.pixels[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert chosen.labels.tolist() == [1, 0, 1]
    assert chosen.names == ("owl", "dog")


def test_select_numbers_the_labels_by_the_names_that_are_given():
    chosen = four_images().select(["owl"], names=["ant", "cat", "owl"])
    assert chosen.labels.tolist() == [2]
    assert chosen.names == ("ant", "cat", "owl")


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["fox"], None, "no label 'fox'; there are cat, dog, owl"),
        ([], None, "choose at least one of cat, dog, owl"),
        (["cat", "cat"], None, "'cat' is listed twice"),
        (["cat"], ["dog"], "no label 'cat'; there are dog"),
    ],
)
def test_a_wrong_list_of_labels_is_refused_with_the_reason(labels, names, message):
    with pytest.raises(DataError, match=message):
        four_images().select(labels, names)


def test_a_label_without_an_image_is_named():
    with pytest.raises(DataError, match="'owl' has no image"):
        four_images().take([0, 1]).select(["cat", "owl"])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("pixels", "labels", "names", "message"),
    [
        (torch.zeros(1, 1, 2, 2), torch.tensor([0]), ("a",), "pixels must be uint8"),
        (torch.zeros(1, 2, 2, dtype=torch.uint8), torch.tensor([0]), ("a",), "pixels must be uint8"),
        (torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.tensor([0]), ("a",), r"labels must be int64 \(2,\)"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0.0]), ("a",), "labels must be int64"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([1]), ("a",), "labels must be 0 to 0"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0]), ("a", "a"), "each name may occur once"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(pixels, labels, names, message):
    with pytest.raises(DataError, match=message):
        LabelledImages(pixels, labels, names)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF"])
def test_a_grey_image_of_the_right_size_keeps_every_pixel(file_format):
    decoded = decode_image(encode(Image.fromarray(RAMP), file_format), 28, 1)
    assert decoded.dtype == torch.uint8
    assert np.array_equal(decoded.numpy(), RAMP[None])


@pytest.mark.parametrize(("file_format", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
def test_a_colour_image_of_the_right_size_keeps_every_pixel(file_format, options):
    decoded = decode_image(encode(Image.fromarray(COLOURS), file_format, **options), 28, 3)
    assert np.array_equal(decoded.numpy(), COLOURS.transpose(2, 0, 1))


def test_a_jpeg_comes_close():
    decoded = decode_image(encode(Image.fromarray(RAMP), "JPEG", quality=95), 28, 1)
    assert np.abs(decoded.numpy()[0].astype(int) - RAMP).max() <= 8


def test_a_bilevel_image_is_black_and_white():
    decoded = decode_image(encode(Image.fromarray(RAMP > 127)), 28, 1)
    assert np.array_equal(decoded.numpy()[0], np.where(RAMP > 127, 255, 0))


def test_a_palette_is_looked_up():
    image = Image.fromarray((RAMP // 128).astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    decoded = decode_image(encode(image), 28, 3)
    assert decoded[:, 0, 0].tolist() == [10, 20, 30]
    assert decoded[:, -1, -1].tolist() == [200, 100, 50]


def test_grey_becomes_three_equal_channels_and_colour_its_luma():
    assert np.array_equal(decode_image(encode(Image.fromarray(RAMP)), 28, 3).numpy(), np.stack([RAMP] * 3))
    red = decode_image(encode(Image.new("RGB", (28, 28), (255, 0, 0))), 28, 1)
    assert red.unique().tolist() == [76]  # 0.299 * 255, ITU-R 601


def test_cmyk_is_converted():
    cyan = decode_image(encode(Image.new("CMYK", (28, 28), (255, 0, 0, 0)), "JPEG", quality=100), 28, 3)
    assert torch.allclose(cyan[:, 14, 14].float(), torch.tensor([0.0, 255.0, 255.0]), atol=3)


def test_sixteen_bit_grey_is_scaled_down_and_not_clipped():
    deep = RAMP.astype(np.uint16) * 257
    assert np.array_equal(decode_image(encode(Image.fromarray(deep)), 28, 1).numpy()[0], RAMP)


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
    assert decode_image(encode(image), 28, 1).unique().tolist() == [expected]


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_counts_as_black(mode):
    white = {"P": 1, "L": 255, "RGB": (255, 255, 255)}[mode]
    image = Image.new(mode, (28, 28), white)
    if mode == "P":
        image.putpalette([0, 0, 0, 255, 255, 255])
    assert decode_image(encode(image, transparency=white), 28, 1).unique().tolist() == [0]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, RAMP), (2, RAMP[:, ::-1]), (3, RAMP[::-1, ::-1]), (6, np.rot90(RAMP, -1)), (8, np.rot90(RAMP))],
)
def test_the_exif_orientation_is_honoured(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_image(encode(Image.fromarray(RAMP), exif=exif), 28, 1).numpy()[0], upright)


def test_a_wide_image_gets_black_bars_above_and_below():
    decoded = decode_image(encode(Image.new("L", (56, 28), 255)), 28, 1)[0]
    assert decoded[7:21].unique().tolist() == [255]
    assert decoded[:7].unique().tolist() == decoded[21:].unique().tolist() == [0]


@pytest.mark.parametrize("side", [1, 3, 14, 29, 500])
def test_resizing_keeps_a_flat_image_flat(side):
    assert decode_image(encode(Image.new("RGB", (side, side), (9, 90, 200))), 28, 3)[:, 0, 0].tolist() == [9, 90, 200]


def test_shrinking_leaves_no_ringing_around_a_stroke():
    canvas = np.zeros((280, 280), dtype=np.uint8)
    canvas[:, 100:140] = 255
    decoded = decode_image(encode(Image.fromarray(canvas)), 28, 1)[0]
    assert decoded[:, :9].max() == decoded[:, 15:].max() == 0
    assert decoded[:, 11:13].min() == 255


@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000)])
def test_a_sliver_is_fitted_without_a_square_of_its_length(size):
    assert decode_image(encode(Image.new("L", size, 255)), 28, 1).shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty .0 bytes."),
        (b"\x00", "not a readable image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a readable image; .*PNG, JPEG, BMP, GIF, WEBP"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
        (encode(Image.fromarray(RAMP), "TIFF"), "not a readable image"),
        (encode(Image.fromarray(COLOURS))[:-100], "PNG image is truncated or damaged"),
        (encode(Image.fromarray(COLOURS), "JPEG")[:-100], "JPEG image is truncated or damaged"),
        (encode(Image.fromarray(RAMP), "BMP")[:-100], "BMP image is truncated or damaged"),
        (png_header(5_000, 5_000), "more than 20,000,000 pixels"),
        (png_header(10_000, 10_000), "more than 20,000,000 pixels"),
        (png_header(60_000, 60_000), "more than 20,000,000 pixels"),
        (png_header(1, 40_000), "a side above 32,768"),
    ],
)
def test_hostile_bytes_are_refused_with_the_reason(data, message):
    with pytest.raises(ImageError, match=message):
        decode_image(data, 28, 1)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused(file_format):
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    with pytest.raises(ImageError, match="animated"):
        decode_image(encode(frames[0], file_format, save_all=True, append_images=frames[1:]), 28, 1)


def test_a_camera_file_with_several_views_gives_the_first():
    views = [Image.new("L", (28, 28), 200), Image.new("L", (28, 28), 0)]
    decoded = decode_image(encode(views[0], "MPO", save_all=True, append_images=views[1:]), 28, 1)
    assert decoded.float().mean().item() == pytest.approx(200, abs=2)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "GIF", "WEBP"])
def test_damaged_bytes_give_an_image_or_an_image_error_and_nothing_else(file_format):
    whole = encode(Image.fromarray(COLOURS), file_format)
    dice = random.Random(7)
    for _ in range(200):
        data = bytearray(whole[: dice.choice([len(whole), dice.randrange(len(whole))])])
        for _ in range(min(3, len(data))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        with suppress(ImageError):
            assert decode_image(bytes(data), 28, 1).shape == (1, 28, 28)


def test_fitting_follows_the_rules_of_decoding():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 20, 40), dtype=np.uint8))
    expected = [decode_image(encode(Image.fromarray(image.permute(1, 2, 0).numpy())), 28, 1) for image in pixels]
    assert torch.equal(fit_pixels(pixels, 28, 1), torch.stack(expected))


@pytest.mark.parametrize(("size", "channels"), [(0, 1), (28, 2)])
def test_an_impossible_shape_is_refused(size, channels):
    with pytest.raises(DataError, match="1 or 3 channels"):
        decode_image(encode(Image.fromarray(RAMP)), size, channels)
