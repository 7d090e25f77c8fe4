import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.inference import NearestImage
from fedlmd.inference.figures import BADGES, Row, channels_last, gallery, heat_map, heated, png
from fedlmd.inference.prediction import Explanation, Prediction, Redrawings


def row(size=28, channels=1, attempts=6, title="", **fields):
    image = torch.rand(channels, size, size) * 2 - 1
    keep = torch.rand(attempts, 1, size, size) > 0.5
    redrawn = image.repeat(attempts, 1, 1, 1)
    prediction = Prediction(
        prediction=4,
        is_ood=True,
        probabilities={"4": 0.9, "9": 0.1},
        score=5.0,
        threshold=3.0,
        p_value=0.01,
        alpha=0.05,
        detector="verdict",
        scores={"verdict": 5.0},
        release="abc",
        verdict="unknown",
    )
    explanation = Explanation(torch.rand(size, size), "4", Redrawings(keep, redrawn, image) if attempts else None)
    return Row(image, explanation, replace(prediction, **fields), title)


@pytest.mark.parametrize("shape", [(28, 28), (5, 9, 3)])
def test_a_png_holds_every_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels)))), pixels)


def test_networks_images_become_pictures():
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert np.array_equal(channels_last(image)[0, 1], [1, 5, 9])
    assert channels_last(image[:1]).shape == (2, 2)


def test_more_heat_is_brighter_and_no_heat_is_black():
    ramp = np.linspace(0, 2, 200, dtype=np.float32)[None]
    colours = heat_map(ramp)[0].astype(int)
    lightness = colours @ [0.2126, 0.7152, 0.0722]
    assert tuple(colours[0]) == (0, 0, 4)
    assert (np.diff(lightness) >= -1).all()
    assert lightness[-1] > 240
    assert np.array_equal(heat_map(np.full((1, 1), 50, np.float32)), heat_map(np.full((1, 1), 2, np.float32)))


def test_of_latents_the_overview_shows_the_image_and_its_heat_alone():
    alone, redrawn = (np.asarray(gallery([row(size=32, channels=3, attempts=number)])) for number in (0, 4))
    assert alone.shape[0] == redrawn.shape[0]
    assert alone.shape[1] < redrawn.shape[1]


def test_the_heat_over_an_image_is_the_brighter_of_the_two():
    shown = row(size=32, channels=3, attempts=0)
    over = heated(shown.image, replace(shown.explanation, heat=torch.zeros(32, 32)))
    assert (over <= 0.6 * 255 + 1).all()
    hot = replace(shown.explanation, heat=torch.full((32, 32), 8.0), brightest=8.0)
    assert np.array_equal(heated(shown.image, hot)[0, 0], heat_map(np.ones((1, 1)))[0, 0])


def test_the_overview_shows_the_image_pixel_for_pixel():
    shown = row()
    picture = np.asarray(gallery([shown]))
    pixels = ((shown.image[0].numpy() + 1) * 127.5).round().astype(np.uint8)
    large = np.repeat(np.repeat(pixels, 9, 0), 9, 1)
    assert any(np.array_equal(picture[top : top + 252, 28 : 28 + 252, 0], large) for top in range(28, 90))


def test_the_overview_shows_the_median_and_the_heat_over_the_image_whole():
    shown = row()
    redrawings = replace(shown.explanation.redrawings, median=-shown.image)
    shown = replace(shown, explanation=replace(shown.explanation, redrawings=redrawings))
    picture = np.asarray(gallery([shown]))
    pixels = [((part[0].numpy() + 1) * 127.5).round().astype(np.uint8) for part in (redrawings.median, shown.image)]
    median = np.repeat(pixels[0][:, :, None], 3, 2)
    dimmed = (np.repeat(pixels[1][:, :, None], 3, 2) * 0.4).astype(np.uint8)
    heated = np.maximum(heat_map(shown.explanation.heat.numpy()), dimmed)
    # From the right: a margin, the heat, a margin, the median.
    for pixels, right in ((heated, 28), (median, 28 + 252 + 28)):
        left = picture.shape[1] - right - 252
        large = np.repeat(np.repeat(pixels, 9, 0), 9, 1)
        assert any(np.array_equal(picture[top : top + 252, left : left + 252], large) for top in range(28, 90))


def test_the_picture_has_a_white_margin():
    picture = np.asarray(gallery([row(title="one"), row(title="two")]))
    for edge in (picture[:20], picture[-20:], picture[:, :20], picture[:, -20:]):
        assert (edge == 255).all()


@pytest.mark.parametrize(
    "shown",
    [
        row(size=32, channels=3),
        row(size=8),
        row(size=300, attempts=1),
        row(attempts=10),
        row(is_ood=False, threshold=None, verdict="uncertain"),
        row(
            prediction="a label that is far too long for one line",
            probabilities={"a label that is far too long for one line": 1.0},
        ),
    ],
    ids=["colour", "small", "large", "many attempts", "no threshold", "long label"],
)
def test_any_prediction_can_be_drawn(shown):
    picture = np.asarray(gallery([shown]))
    assert picture.ndim == 3
    assert (picture[:, -20:] == 255).all()


def test_each_verdict_has_its_own_badge():
    drawn = {verdict: np.asarray(gallery([row(verdict=verdict)])) for verdict in BADGES}
    for verdict, picture in drawn.items():
        shown = {other for other, colour in BADGES.items() if (picture == colour).all(2).any()}
        assert shown == {verdict}


def test_a_gallery_needs_a_row():
    with pytest.raises(ValueError, match="at least one row"):
        gallery([])


def test_nearest_known_images_are_drawn_beside_the_heat():
    known = [NearestImage(str(n), 0.1 * n, torch.full((3, 64, 64), 40 * n, dtype=torch.uint8)) for n in range(1, 4)]
    alone = row(size=32, channels=3, attempts=0)
    with_known = np.asarray(gallery([replace(alone, nearest=known)]))
    without = np.asarray(gallery([alone]))
    assert with_known.shape[0] == without.shape[0]
    for n in range(1, 4):
        grey = (with_known == 40 * n).all(2)
        assert grey.sum() >= 140 * 140
        assert (without == 40 * n).all(2).sum() < 100
