"""Decoding of a source into latents."""

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.data import DataConfig, DataError, PartitionConfig, PixelRules, load, loading
from fedlmd.data.decoding import TOGETHER
from fedlmd.progress import drain

RULES = PixelRules(8, 3)


class Means:
    """Encodes an image as its mean colour, and remembers every image."""

    def __init__(self):
        self.known, self.encoded = {}, 0

    def stored(self, raw):
        return self.known.get(raw)

    def __call__(self, raws, pixels):
        self.encoded += len(raws)
        latents = pixels.float().mean((2, 3), keepdim=True).half()
        self.known.update(zip(raws, latents, strict=True))
        return latents


@pytest.fixture
def folder(tmp_path):
    for label, shade in (("a", 0), ("b", 100)):
        (tmp_path / label).mkdir()
        for number in range(30):
            Image.new("RGB", (8, 8), (shade + number, 0, 0)).save(tmp_path / label / f"{number:02d}.png")
    return tmp_path


def test_latents_take_the_place_of_pixels_in_the_order_of_the_images(folder):
    images, latents = (load(str(folder), "all", rules=RULES, **options) for options in ({}, {"encode": Means()}))
    assert latents.pixels.dtype == torch.float16
    assert latents.pixels.shape == (60, 3, 1, 1)
    assert torch.equal(latents.labels, images.labels)
    assert torch.equal(latents.pixels[:, 0, 0, 0].float(), images.pixels[:, 0, 0, 0].float())
    assert torch.equal(latents.images([3]), latents.pixels[3:4].float())


def test_what_is_stored_is_not_encoded_again(folder):
    encode = Means()
    first = load(str(folder), "all", rules=RULES, encode=encode)
    again = load(str(folder), "all", rules=RULES, encode=encode)
    assert encode.encoded == 60
    assert torch.equal(first.pixels, again.pixels)


def test_progress_counts_the_images(folder):
    steps = []
    drain(loading(str(folder), "all", rules=RULES, encode=Means()), steps.append)
    assert [(step.stage, step.done, step.total) for step in steps] == [("encoding", TOGETHER, 60)]


def test_a_damaged_image_is_passed_over(folder, caplog):
    (folder / "a" / "05.png").write_bytes(b"no image")
    latents = load(str(folder), "all", rules=RULES, encode=Means())
    assert len(latents) == 59
    assert latents.pixels[5, 0, 0, 0] == 6
    assert "1 passed over" in caplog.text
    with pytest.raises(DataError, match=r"05\.png"):
        load(str(folder), "all", rules=RULES, encode=Means(), config=DataConfig(strict=True))


def test_a_share_alone_is_encoded_and_of_it_the_labels_that_are_wanted(folder):
    config = DataConfig(partition=PartitionConfig("iid", 3))
    encode = Means()
    shares = [
        load(str(folder), "all", rules=RULES, config=config, share=share, only=("a",), encode=encode)
        for share in range(3)
    ]
    assert encode.encoded == 30
    assert all(share.labels.unique().tolist() == [0] for share in shares)
    values = np.sort(torch.cat([share.pixels[:, 0, 0, 0] for share in shares]).numpy())
    assert values.tolist() == list(range(30))
