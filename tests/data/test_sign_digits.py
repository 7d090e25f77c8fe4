"""The photographs of hands that ship with the package."""

from collections import Counter
from importlib import resources
from io import BytesIO
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataConfig, DataError, PixelRules, decode_image, label_names, load, scan, survey
from fedlmd.data.sign_digits import SIGN_DIGITS, catalogue_of_packed
from fedlmd.data.sources import evaluation_split
from tests.data.samples import encode

COUNTS = dict(zip("0123456789", (205, 206, 206, 206, 207, 207, 207, 206, 208, 204), strict=True))


@pytest.fixture(scope="module")
def catalogue():
    return scan("sign-digits")


def test_every_file_is_a_small_picture_of_one_format_without_notes_of_a_camera():
    with ZipFile(SIGN_DIGITS) as archive:
        entries = archive.infolist()
        for entry in entries:
            with Image.open(BytesIO(archive.read(entry))) as image:
                assert (image.format, image.mode, image.size) == ("WEBP", "RGB", (100, 100))
                assert not {"exif", "xmp", "icc_profile"} & set(image.info)
    assert [entry.filename for entry in entries] == sorted({entry.filename for entry in entries})
    assert {(entry.compress_type, entry.date_time) for entry in entries} == {(ZIP_STORED, (1980, 1, 1, 0, 0, 0))}
    assert Counter(entry.filename.split("/")[0] for entry in entries) == COUNTS


def test_the_archive_is_small_and_its_notice_names_origin_licence_and_changes():
    assert SIGN_DIGITS.stat().st_size < 6_000_000
    notice = (resources.files("fedlmd.data") / "sign_digits" / "NOTICE.md").read_text()
    for words in ("Arda Mavi", "Apache-2.0", "arXiv:2011.08927", "Changes", "Sign-Language-Digits-Dataset"):
        assert words in notice


def test_a_file_is_an_image_of_its_label_and_names_itself(catalogue):
    part = catalogue.part("all", 0.0)
    with ZipFile(SIGN_DIGITS) as archive:
        for index in (0, 300, 2061):
            source, _, file = part.name(index).partition(", ")
            assert (source, file.split("/")[0]) == ("sign-digits", catalogue.labels[part.labels[index]])
            assert part.raw(index) == archive.read(file)


def test_a_seeded_share_of_each_label_is_to_evaluate_on(catalogue):
    assert (catalogue.labels, catalogue.divided) == (tuple("0123456789"), False)
    train, held = (catalogue.part(split, 0.2) for split in ("train", "eval"))
    assert np.bincount(held.labels).tolist() == [round(0.2 * count) for count in COUNTS.values()]
    assert not {train.name(i) for i in range(len(train))} & {held.name(i) for i in range(len(held))}
    assert len(train) + len(held) == 2062


def test_images_are_decoded_by_the_rules_for_pixels(catalogue):
    rules = PixelRules(24, 3)
    loaded = load("sign-digits", "eval", rules=rules, labels=["9", "2"])
    assert (loaded.names, tuple(loaded.pixels.shape)) == (("9", "2"), (82, 3, 24, 24))
    part = catalogue.part("eval", DataConfig().evaluation)
    chosen = [index for index in range(len(part)) if catalogue.labels[part.labels[index]] in ("9", "2")]
    assert torch.equal(loaded.pixels[-1], decode_image(part.raw(chosen[-1]), rules))
    assert loaded.labels[-1] == 0


def test_a_data_root_does_not_hide_what_is_shipped(tmp_path):
    root = tmp_path / "missing"
    assert len(load("sign-digits", "eval", root=root, labels=["8"], config=DataConfig(evaluation=0.1))) == 21
    assert label_names("sign-digits", "eval", root=root) == tuple("0123456789")
    assert evaluation_split("sign-digits", root=root) == "all"
    looked_at = survey("sign-digits", root=root, sample=5)
    assert {label: sum(each.values()) for label, each in looked_at.labels.items()} == COUNTS
    assert looked_at.facts.side == 100


def test_an_unknown_label_is_answered_with_those_that_exist():
    with pytest.raises(DataError, match="no label 'ten'; there are 0, 1, 2"):
        load("sign-digits", "train", labels=["ten"])


def test_any_archive_of_label_folders_is_a_catalogue(tmp_path):
    with ZipFile(tmp_path / "files.zip", "w") as archive:
        for name, shade in (("b/1.png", 7), ("10/x.png", 8), ("2/x.png", 9)):
            archive.writestr(name, encode(Image.new("L", (2, 2), shade)))
    catalogue = catalogue_of_packed(tmp_path / "files.zip", "mine")
    assert catalogue.labels == ("2", "10", "b")
    part = catalogue.part("all", 0.0)
    assert [(part.name(i), int(part.labels[i])) for i in range(3)] == [
        ("mine, b/1.png", 2),
        ("mine, 10/x.png", 1),
        ("mine, 2/x.png", 0),
    ]
    assert decode_image(part.raw(1), PixelRules(2)).unique().tolist() == [8]
