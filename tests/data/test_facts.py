"""What images look like, in numbers."""

import json

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import DataError, Facts
from fedlmd.data.facts import facts_of, look, pooled
from fedlmd.data.images import ImageError
from tests.data.samples import COLOURS, RAMP, encode, glyph


def drawn(ink, paper, alpha=None):
    """A file with a character of one grey level on paper of another, or on a transparent page."""
    grey = np.where(glyph(), ink, paper).astype(np.uint8)
    if alpha is None:
        return encode(Image.fromarray(grey))
    return encode(Image.fromarray(np.dstack([grey, np.where(glyph(), 255, alpha).astype(np.uint8)])))


def test_black_ink_on_white_paper_has_a_plain_light_border():
    seen = look(drawn(0, 255))
    assert (seen.light, seen.plain, seen.transparent, seen.colour, seen.deep) == (True, True, False, False, False)
    assert (seen.side, seen.size, seen.oblong, seen.mode, seen.blank) == (28, (28, 28), False, "L", False)


def test_white_ink_on_black_paper_has_a_plain_dark_border():
    seen = look(drawn(255, 0))
    assert (seen.light, seen.plain) == (False, True)


@pytest.mark.parametrize(("ink", "dark"), [(0, True), (60, True), (200, False), (255, False)])
@pytest.mark.parametrize("paper", [0, 255])
def test_ink_on_a_transparent_page_is_dark_or_light_whatever_the_page_hides(ink, dark, paper):
    seen = look(drawn(ink, paper, alpha=0))
    assert (seen.transparent, seen.dark_ink, seen.light, seen.blank) == (True, dark, dark, False)


def test_colour_below_a_transparent_page_is_not_seen():
    page = np.zeros((28, 28, 4), np.uint8)
    page[..., 0] = 255
    page[glyph()] = [255, 255, 255, 255]
    assert not look(encode(Image.fromarray(page))).colour
    page[glyph()] = [255, 0, 0, 255]
    assert look(encode(Image.fromarray(page))).colour


def test_a_palette_with_partly_transparent_entries_is_looked_at_without_a_warning():
    image = Image.fromarray((RAMP // 128).astype(np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    seen = look(encode(image, transparency=bytes([128, 255])))
    assert (seen.transparent, seen.colour) == (True, True)


def test_a_photograph_has_no_plain_border():
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    seen = look(encode(Image.fromarray(noise), "JPEG"))
    assert (seen.plain, seen.colour, seen.oblong, seen.side, seen.size) == (False, True, True, 40, (60, 40))


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_grey_photograph_that_is_saved_in_colour_counts_as_grey(quality):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    assert not look(encode(Image.fromarray(noise).convert("RGB"), "JPEG", quality=quality)).colour
    assert look(encode(Image.fromarray(COLOURS), "JPEG", quality=quality)).colour


def test_values_with_more_than_eight_bits_have_a_range():
    seen = look(encode(Image.fromarray(RAMP.astype(np.uint16) * 16)))
    assert (seen.deep, seen.low, seen.high, seen.mode) == (True, 0, 4080, "uint16")
    seen = look(RAMP / 255.0)
    assert (seen.deep, seen.low, seen.high) == (True, 0, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_finite_numbers_are_refused(value):
    with pytest.raises(ImageError, match="not finite numbers"):
        look(np.where(glyph(), value, 7.5))


def test_an_image_of_one_colour_is_blank():
    assert look(encode(Image.new("RGB", (9, 9), (9, 90, 200)))).blank


def test_facts_are_shares_of_a_sample():
    looks = [look(drawn(0, 255, alpha=0)), look(drawn(255, 0, alpha=0)), look(drawn(0, 255)), look(RAMP * 16.0)]
    facts = facts_of(looks)
    assert (facts.images, facts.side, facts.transparent, facts.dark_ink, facts.deep) == (4, 28, 0.5, 0.5, 0.25)
    assert (facts.light, facts.colour, facts.oblong, facts.low, facts.high) == (0.5, 0, 0, 0, 4080)
    assert facts_of([]) == Facts()


def test_facts_survive_a_message():
    facts = facts_of([look(RAMP * 16.5), look(drawn(0, 255, alpha=0))])
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"images": "many"}, "the facts of a worker's images are not finite numbers named colour, dark_ink"),
        ({"side": float("nan")}, "are not finite numbers"),
        ({"images": float("inf")}, "are not finite numbers"),
        ({"high": 10**400}, "are not finite numbers"),
        ({"colour": 1.5}, "shares of images lie in"),
        ({"images": -1}, "shares of images lie in"),
        ({"side": 0}, "sides of images lie in"),
        ({"low": 1.0, "high": 0.0}, "sides of images lie in"),
        ({"colours": 1}, "the facts of a worker's images are not finite numbers named colour, dark_ink"),
    ],
)
def test_facts_out_of_range_are_refused(entries, message):
    with pytest.raises(DataError, match=message):
        Facts.from_json(entries)


def test_facts_of_several_workers_are_means_weighted_by_images():
    first = Facts(images=300, side=20.0, colour=1.0, transparent=1.0, dark_ink=1.0)
    second = Facts(images=100, side=40.0, transparent=0.5, dark_ink=0.0, deep=0.5, low=-5.0, high=9.0)
    together = pooled([first, second, Facts()])
    assert (together.images, together.side, together.colour, together.transparent) == (400, 25, 0.75, 0.875)
    assert together.dark_ink == pytest.approx(300 / 350)
    assert (together.deep, together.low, together.high) == (0.125, -5, 9)
    assert pooled([Facts(), Facts()]) == Facts()
