"""The images of the self-test to the last grey level, and which differences it lets pass."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from fedlmd.release.self_test import (
    LOGITS,
    RECIPE,
    TOLERANCE,
    VERDICT,
    SelfTest,
    dissenting,
    patterns,
    relative_difference,
)

OUTPUTS = {
    LOGITS: np.array([[9.0, 1.0], [2.0, 7.0], [3.0, 3.0001]], np.float32),
    "one-step": np.array([0.5, 0.25, 1.0], np.float32),
    VERDICT: np.array([-1.0, 4.0, 10.0], np.float32),
}
THRESHOLD = 3.9995
PASSES = SelfTest.of(OUTPUTS, THRESHOLD)


def changed(name, position, by):
    other = {key: array.copy() for key, array in OUTPUTS.items()}
    other[name][position] += by
    return other


def by_hand(number, channel, size, count):
    """The docstring's recipe in Python's own whole numbers, pixel by pixel."""
    heights = list(hashlib.sha256(f"level-lines-1/{number}/{channel}".encode()).digest()[:16])
    for y in range(size):
        for x in range(size):
            bowl = min(128 * 100 * ((2 * y + 1 - size) ** 2 + (2 * x + 1 - size) ** 2) // (36 * size * size), 255)
            (row, down), (column, right) = divmod(y * 3 * 256 // size, 256), divmod(x * 3 * 256 // size, 256)
            corners = [
                (heights[4 * (row + i) + column + j], (256 - down, down)[i] * (256 - right, right)[j])
                for i in (0, 1)
                for j in (0, 1)
            ]
            noise = sum(height * weight for height, weight in corners) // 65536
            field = ((count - 1 - number) * bowl + number * noise) // (count - 1)
            yield max(255 - 6 * max(abs(field - 128) - 12, 0), 0)


@pytest.mark.parametrize(("number", "channel", "size"), [(0, 0, 28), (3, 0, 28), (7, 0, 28), (5, 2, 9)])
def test_an_image_follows_the_recipe_grey_level_by_grey_level(number, channel, size):
    made = patterns(3, size)[number, channel]
    assert made.ravel().tolist() == list(by_hand(number, channel, size, 8))


def test_the_images_never_change():
    assert hashlib.sha256(patterns(1, 28).tobytes()).hexdigest()[:16] == "e05e8ffa25156626"


def test_the_images_run_from_a_ring_to_irregular_curves_and_all_have_bright_and_black_parts():
    images = patterns(1, 28)[:, 0].astype(int)
    ring = images[0]
    assert np.array_equal(ring, ring[::-1])
    assert np.array_equal(ring, ring.T)
    assert ring[13:15, 13:15].max() == 0
    assert ring[0].max() == 0
    for image in images:
        assert 0.05 < (image > 128).mean() < 0.6
        assert (image == 0).mean() > 0.2


def test_a_self_test_passes_through_a_card_and_back():
    again = SelfTest(**PASSES.to_json())
    assert again == PASSES
    assert again.unknown == [False, True, True]
    assert again.failure(OUTPUTS, THRESHOLD) is None


@pytest.mark.parametrize("name", [LOGITS, "one-step", VERDICT])
def test_rounding_passes_and_more_does_not(name):
    scale = np.abs(OUTPUTS[name]).max()
    assert PASSES.failure(changed(name, 0, 0.5 * TOLERANCE * scale), THRESHOLD) is None
    assert name in PASSES.failure(changed(name, 0, 2 * TOLERANCE * scale), THRESHOLD)


def test_a_score_that_crosses_the_threshold_by_rounding_passes():
    # 4.0 lies within rounding (1e-4 of 10) above the threshold.
    assert PASSES.failure(changed(VERDICT, 1, -0.0008), THRESHOLD) is None


def test_another_threshold_decides_otherwise_and_does_not_pass():
    assert PASSES.failure(OUTPUTS, 5.0) == "it decides otherwise on 1 of 2 images"
    assert PASSES.failure(OUTPUTS, -2.0) == "it decides otherwise on 1 of 2 images"


def test_of_an_image_with_two_equally_good_labels_only_the_logits_count():
    # The last image may be redrawn as either label, which its one-step score and verdict follow.
    assert PASSES.failure(changed("one-step", 2, -0.3), THRESHOLD) is None
    assert PASSES.failure(changed(LOGITS, (2, 0), 0.01), THRESHOLD).startswith(LOGITS)


def test_what_is_not_finite_or_of_another_shape_is_no_rounding():
    assert PASSES.failure(changed("one-step", 0, np.nan), THRESHOLD)
    assert PASSES.failure({**OUTPUTS, LOGITS: OUTPUTS[LOGITS][:, :1]}, THRESHOLD)
    assert relative_difference(np.zeros(2), np.zeros(2)) == 0


def test_another_recipe_and_an_unknown_score_are_named():
    with pytest.raises(ValueError, match=f"made by 'other'; this version of fedlmd makes '{RECIPE}'"):
        replace(PASSES, recipe="other").failure(OUTPUTS, THRESHOLD)
    with pytest.raises(ValueError, match="an unknown 'one-step'"):
        PASSES.failure({name: OUTPUTS[name] for name in (LOGITS, VERDICT)}, THRESHOLD)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([], []),
        ([{}, {}], []),
        ([OUTPUTS, OUTPUTS, OUTPUTS], []),
        ([OUTPUTS, changed("one-step", 0, 1e-6)], []),
        ([changed(LOGITS, 0, 1), OUTPUTS, OUTPUTS], [0]),
        ([OUTPUTS, changed(LOGITS, 0, 1)], [1]),
        ([OUTPUTS, OUTPUTS, {}], [2]),
        ([changed(LOGITS, 0, np.nan), changed(LOGITS, 0, np.nan), OUTPUTS], [0, 1]),
        ([{LOGITS: np.zeros(3)}, OUTPUTS, {"one-step": np.zeros(3)}], [0, 2]),
        ([changed(VERDICT, 0, np.nan)], [0]),
    ],
)
def test_findings_that_differ_from_those_of_most_are_named(findings, expected):
    assert dissenting(findings) == expected


def test_no_network_library_is_needed():
    code = "import sys, fedlmd.release.self_test; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
