"""From untrusted bytes to pixels: the formats that are read, and how each refusal reads."""

import random
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import PixelRules, decode_image
from fedlmd.data.formats import from_array, open_image
from fedlmd.data.images import ImageError
from tests.data.samples import COLOURS, RAMP, encode

RULES = PixelRules()


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT"


def tiff_header(width, height):
    """A TIFF file that says it has one strip of so many grey pixels."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (278, 4, height)]
    entries.append((279, 4, 1))
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + b"\0\0\0\0"


@pytest.mark.parametrize(
    ("file_format", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32), ("TIFF", np.float32)]
)
def test_grey_with_more_than_eight_bits_keeps_its_values(file_format, dtype):
    values = RAMP.astype(dtype) * 16
    with_depth = open_image(encode(Image.fromarray(values), file_format))
    assert isinstance(with_depth, np.ndarray)
    assert np.array_equal(with_depth, values)


def test_big_endian_values_keep_their_values():
    image = Image.frombytes("I;16B", (28, 28), RAMP.astype(">u2").tobytes())
    assert np.array_equal(open_image(encode(image, "TIFF")), RAMP)


def png_of_sixteen_bits(values):
    """A PNG file of two, three or four channels, which Pillow can read and not write."""
    height, width, channels = values.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)), (b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(text)) + name + text + struct.pack(">I", zlib.crc32(name + text))
        for name, text in [*chunks, (b"IEND", b"")]
    )


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits_are_read_where_they_fill_their_range(channels):
    values = np.full((28, 28, channels), 200 * 257, np.uint16)
    values[..., 3:] = values[..., 1:2] if channels == 2 else 65535
    assert np.asarray(open_image(png_of_sixteen_bits(values)).convert("RGB")).max() == 200
    with pytest.raises(ImageError, match="16 bits for each colour and uses less than a quarter of their range"):
        open_image(png_of_sixteen_bits(values // 16))


def test_arrays_of_bytes_are_pictures_and_others_keep_their_values():
    assert from_array(RAMP).mode == "L"
    assert from_array(RAMP[..., None]).mode == "L"
    assert from_array(np.dstack([RAMP, RAMP])).mode == "LA"
    assert from_array(COLOURS).mode == "RGB"
    assert from_array(np.dstack([COLOURS, RAMP])).mode == "RGBA"
    assert np.array_equal(from_array(RAMP > 9), np.where(RAMP > 9, 255, 0))
    for dtype in (np.int64, np.uint16, np.float16, np.float64):
        assert np.array_equal(from_array(RAMP.astype(dtype)[..., None]), RAMP)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, RAMP),
        (2, RAMP[:, ::-1]),
        (3, RAMP[::-1, ::-1]),
        (4, RAMP[::-1]),
        (5, RAMP.T),
        (6, np.rot90(RAMP, -1)),
        (7, RAMP[::-1, ::-1].T),
        (8, np.rot90(RAMP)),
    ],
)
def test_the_exif_orientation_is_honoured(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decode_image(encode(Image.fromarray(RAMP), exif=exif), RULES).numpy()[0], upright)


def test_a_camera_file_with_several_views_gives_the_first():
    views = [Image.new("L", (28, 28), 200), Image.new("L", (28, 28), 0)]
    decoded = decode_image(encode(views[0], "MPO", save_all=True, append_images=views[1:]), RULES)
    assert decoded.float().mean().item() == pytest.approx(200, abs=2)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_image_of_several_frames_is_refused(file_format):
    frames = [Image.fromarray(RAMP), Image.fromarray(255 - RAMP)]
    with pytest.raises(ImageError, match="animated or has several pages"):
        open_image(encode(frames[0], file_format, save_all=True, append_images=frames[1:]))


@pytest.mark.parametrize("mode", ["YCbCr", "CMYK", "LA", "PA", "RGBX", "1", "P"])
def test_every_mode_of_a_tiff_file_becomes_grey_and_rgb(mode):
    data = encode(Image.fromarray(COLOURS).convert("LA" if mode == "PA" else mode).convert(mode), "TIFF")
    for rules in (RULES, PixelRules(channels=3)):
        assert decode_image(data, rules).shape == (rules.channels, 28, 28)


def test_a_colour_space_that_cannot_be_converted_is_refused_with_the_reason():
    with pytest.raises(ImageError, match="colour space LAB; save it as RGB"):
        open_image(encode(Image.new("LAB", (28, 28)), "TIFF"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty .0 bytes."),
        (b"\x00", "not a readable image"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "not a readable image; .*PNG, JPEG, BMP, GIF, WEBP, TIFF or DIC",
        ),
        (b"%PDF-1.7", "not a readable image"),
        (b"\x89PNG\r\n\x1a\n", "not a readable image"),
        (encode(Image.fromarray(RAMP), "PPM"), "not a readable image"),
        (encode(Image.fromarray(COLOURS))[:-100], "PNG image is truncated or damaged"),
        (encode(Image.fromarray(COLOURS), "JPEG")[:-100], "JPEG image is truncated or damaged"),
        (encode(Image.fromarray(RAMP), "BMP")[:-100], "BMP image is truncated or damaged"),
        (encode(Image.fromarray(RAMP), "TIFF")[:-100], "TIFF image is truncated or damaged"),
        (png_header(5_000, 5_000), "more than 20,000,000 pixels"),
        (png_header(10_000, 10_000), "more than 20,000,000 pixels"),
        (png_header(60_000, 60_000), "more than 20,000,000 pixels"),
        (png_header(1, 40_000), "a side above 32,768"),
        (tiff_header(60_000, 60_000), "more than 20,000,000 pixels"),
        (tiff_header(40_000, 1), "a side above 32,768"),
    ],
)
def test_hostile_bytes_are_refused_with_the_reason(data, message):
    with pytest.raises(ImageError, match=message):
        open_image(data)


def test_an_array_above_the_largest_size_is_refused():
    with pytest.raises(ImageError, match="more than 20,000,000 pixels"):
        from_array(np.broadcast_to(np.uint8(0), (5000, 5000)))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_damaged_bytes_give_an_image_or_an_image_error_and_nothing_else(file_format):
    whole = encode(Image.fromarray(COLOURS), file_format)
    dice = random.Random(7)
    for _ in range(200):
        data = bytearray(whole[: dice.choice([len(whole), dice.randrange(len(whole))])])
        for _ in range(min(3, len(data))):
            data[dice.randrange(len(data))] = dice.randrange(256)
        with suppress(ImageError):
            assert decode_image(bytes(data), RULES).shape == (1, 28, 28)
