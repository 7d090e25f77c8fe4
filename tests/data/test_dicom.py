"""DICOM files."""

import sys
from contextlib import suppress
from io import BytesIO

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from fedlmd.data import ImagesConfig, PixelRules, choose_rules, decode_image, load, scan, survey
from fedlmd.data.dicom import is_dicom
from fedlmd.data.formats import open_image
from fedlmd.data.images import ImageError
from tests.data.samples import COLOURS, RAMP, content, tree


def dicom(values, kind="MONOCHROME2", bits=None, syntax=ExplicitVRLittleEndian, **elements):
    """The bytes of a DICOM file with these pixels."""
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.Rows, file.Columns = values.shape[-3:-1] if values.shape[-1] == 3 else values.shape[-2:]
    file.SamplesPerPixel = 3 if values.shape[-1] == 3 else 1
    if file.SamplesPerPixel == 3:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = kind
    file.BitsAllocated = values.dtype.itemsize * 8
    file.BitsStored = bits or file.BitsAllocated
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    file.PixelData = values.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


TWELVE = np.linspace(0, 4095, 28 * 28).astype(np.uint16).reshape(28, 28)


def test_a_dicom_file_is_known_by_its_bytes():
    assert is_dicom(dicom(RAMP))
    assert not is_dicom(b"DICM" * 30)
    assert not is_dicom(b"")


def test_eight_bits_are_a_picture():
    assert np.array_equal(open_image(dicom(RAMP)), RAMP)
    assert open_image(dicom(RAMP)).mode == "L"
    assert np.array_equal(decode_image(dicom(RAMP), PixelRules())[0].numpy(), RAMP)


def test_colour_is_a_picture():
    image = open_image(dicom(COLOURS, kind="RGB"))
    assert image.mode == "RGB"
    assert np.array_equal(image, COLOURS)


def test_colour_of_video_becomes_rgb():
    ycbcr = np.asarray(Image.fromarray(COLOURS).convert("YCbCr"))
    image = open_image(dicom(ycbcr, kind="YBR_FULL"))
    assert np.abs(np.asarray(image).astype(int) - COLOURS).max() <= 4


def test_a_palette_is_looked_up():
    palette = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour, levels in (("Red", [1, 200]), ("Green", [2, 100]), ("Blue", [3, 50]))
        for part, value in (("Descriptor", [2, 0, 8]), ("Data", bytes(levels)))
    }
    image = open_image(dicom((RAMP > 127).astype(np.uint8), kind="PALETTE COLOR", **palette))
    assert np.asarray(image)[0, 0].tolist() == [1, 2, 3]
    assert np.asarray(image)[-1, -1].tolist() == [200, 100, 50]


def test_twelve_bits_keep_their_values_and_their_grey_levels():
    data = dicom(TWELVE, bits=12)
    assert np.array_equal(open_image(data), TWELVE)


def test_where_low_values_are_bright_they_are_mirrored():
    assert np.array_equal(open_image(dicom(TWELVE, kind="MONOCHROME1", bits=12)), 4095 - TWELVE)
    assert np.array_equal(open_image(dicom(RAMP, kind="MONOCHROME1")), 255 - RAMP)
    signed = (TWELVE.astype(np.int16) - 2048) * 8
    assert np.array_equal(open_image(dicom(signed, kind="MONOCHROME1")), -1 - signed)


def test_slope_and_intercept_give_the_values_of_the_modality():
    data = dicom(TWELVE, bits=12, RescaleSlope="2", RescaleIntercept="-1024", RescaleType="HU")
    assert np.array_equal(open_image(data), TWELVE * 2.0 - 1024)


def test_values_below_zero_get_a_window(tmp_path):
    data = dicom(TWELVE, bits=12, RescaleSlope="1", RescaleIntercept="-1024")
    source = tree(tmp_path, {"a/1.dcm": data, "b/1.dcm": data})
    facts = survey(str(source)).facts
    rules = choose_rules(28, "auto", ImagesConfig(), [facts]).rules
    assert (facts.deep, facts.low, facts.high) == (1, -1024, 3071)
    assert rules.window == (-1024, 3071)
    assert len(load(str(source), "all", rules=rules).pixels.unique()) == 256


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (dicom(np.stack([TWELVE] * 3), NumberOfFrames="3"), "the DICOM file has 3 frames; give a single frame"),
        (dicom(TWELVE)[:-200], r"the DICOM file cannot be read \(.*\); save it uncompressed, or as PNG"),
        (dicom(TWELVE)[:140], "the DICOM file cannot be read"),
        (bytes(128) + b"DICM" + b"rubbish" * 20, "the DICOM file cannot be read"),
        (dicom(RAMP, Rows=30_000, Columns=30_000), "more than 20,000,000 pixels"),
        (
            dicom(np.zeros((28, 28), np.uint8), syntax=DeflatedExplicitVRLittleEndian),
            "is deflated; save it uncom",
        ),
        (dicom(RAMP, kind="NONSENSE"), "Unknown .* 'Photometric Interpretation' value 'NONSENSE'"),
    ],
    ids=["frames", "cut", "header alone", "rubbish", "bomb", "deflated", "unknown kind"],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_cannot_be_read_is_refused_in_one_line(data, message):
    with pytest.raises(ImageError, match=message) as caught:
        open_image(data)
    assert str(caught.value).isprintable()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_compression_that_cannot_be_undone_is_refused_in_one_line():
    raw = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51rubbish"])
    data = dicom(RAMP, syntax=JPEG2000Lossless, PixelData=raw)
    with pytest.raises(ImageError, match="save it uncompressed, or as PNG") as caught:
        open_image(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_give_an_image_or_an_image_error_and_nothing_else():
    whole = dicom(TWELVE, bits=12, RescaleSlope="1", RescaleIntercept="-1024")
    dice = np.random.default_rng(7)
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(3):
            data[dice.integers(132, 600)] = dice.integers(256)
        with suppress(ImageError):
            assert decode_image(bytes(data), PixelRules()).shape[0] == 1


def test_without_pydicom_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImageError, match=r"needs the package pydicom: pip install 'fedlmd\[dicom\]'"):
        open_image(dicom(RAMP))


def test_files_without_a_suffix_are_images_where_their_bytes_say_so(tmp_path):
    names = {"IM0001": 1, "IM-0001-0002": 2, "1.2.840.113619.2.5": 3, "scan.dcm": 4, "SCAN.DCM": 5, "a.b": 6}
    files = {f"ct/{name}": dicom(np.full((28, 28), level, np.uint8)) for name, level in names.items()}
    tree(tmp_path, files | {"ct/LICENSE": "x", "ct/DICOMDIR": dicom(RAMP), "ct/short": b"", "mr/1.png": 50})
    assert sorted(content(tmp_path, "all")["ct"]) == [1, 2, 3, 4, 5]
    assert dict(scan(str(tmp_path)).passed_over.counts) == {
        "no image by its name (.b)": 1,
        "no image by its name (no suffix)": 2,
        "a file or folder of the system": 1,
    }
