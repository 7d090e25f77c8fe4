import re

import numpy as np
import pytest

from fedlmd.federation.compression import (
    BLOCK,
    NIBBLES,
    SCALES,
    change,
    check_packed,
    check_quantised,
    compress,
    packed,
    quantise,
    restore,
    unpacked,
)

SHAPES = {"a.w": (20, 31), "b": (7,), "c.w": (3, 2, 2), "d": (), "e": (0,)}
OFFSETS = {
    "a.w": np.arange(620).reshape(20, 31) // BLOCK,
    "b": np.full(7, 3),
    "c.w": np.full((3, 2, 2), 4),
    "d": np.array(5),
    "e": np.zeros(0, int),
}
"""Which of the six blocks a value belongs to: three of the first array, one of each other that has values."""


def drawn(seed, scale=1.0):
    generator = np.random.default_rng(seed)
    sizes = {"a.w": 1.0, "b": 1e-4, "c.w": 30.0, "d": 1e-3, "e": 1.0}
    return {
        name: np.asarray(generator.normal(size=shape) * sizes[name] * scale, dtype=np.float32)
        for name, shape in SHAPES.items()
    }


def total(parts):
    parts = list(parts)
    return {name: np.sum([part[name].astype(np.float64) for part in parts], axis=0) for name in SHAPES}


def distance(one, other, scales):
    """The largest difference of two updates, in scales of the blocks."""
    differences = [np.abs(one[name] - other[name]) / scales[OFFSETS[name]] for name in SHAPES]
    return max(float(array.max()) for array in differences if array.size)


def test_a_value_moves_by_half_its_blocks_scale_at_most_and_keeps_its_place():
    values = drawn(0)
    update = quantise(values)
    assert {name: (array.dtype.name, array.shape) for name, array in update.items()} == {
        **{name: ("int8", shape) for name, shape in SHAPES.items()},
        SCALES: ("float32", (6,)),
    }
    for block in range(6):
        peak = max(float(np.abs(values[name][OFFSETS[name] == block]).max(initial=0)) for name in SHAPES)
        assert update[SCALES][block] == pytest.approx(peak / 127, rel=1e-6)
    assert check_quantised(update) is None
    restored = restore(update)
    assert {name: (array.dtype.name, array.shape) for name, array in restored.items()} == {
        name: ("float32", shape) for name, shape in SHAPES.items()
    }
    assert 0.45 < distance(restored, values, update[SCALES]) <= 0.5 + 1e-4


def test_multiples_of_the_scale_come_back_as_they_were_from_the_least_to_the_greatest():
    values = {"w": np.arange(-127, 128, dtype=np.float32) * 0.5}
    update = quantise(values)
    np.testing.assert_array_equal(update["w"], np.arange(-127, 128))
    np.testing.assert_array_equal(restore(update)["w"], values["w"])


@pytest.mark.parametrize("size", [0.0, 1e-44, 2.5e-43, 1e-38, 3.4e38])
def test_sizes_at_the_ends_of_what_float32_holds_are_quantised_without_a_warning(size):
    values = {"w": np.array([size, -size, size / 3], dtype=np.float32)}
    restored = restore(quantise(values))["w"]
    np.testing.assert_allclose(restored, values["w"], rtol=0, atol=max(size / 127, 2e-43))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_noticed_by_the_receiver(bad):
    update = quantise({"w": np.array([1.0, bad], dtype=np.float32), "x": np.ones(3, np.float32)})
    assert check_quantised(update) == "'scales' holds values that are not finite numbers of 0 or above"
    np.testing.assert_array_equal(restore({"x": update["x"], SCALES: update[SCALES][1:]})["x"], np.ones(3))


UPDATE = quantise({"v": np.ones(300, np.float32), "w": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"w": np.ones(3, np.float32)}, "'scales' is missing; this run takes changes of weights in few bits"),
        ({**UPDATE, "w": np.ones((2, 3), np.float32)}, "'w' has dtype float32, not int8"),
        ({**UPDATE, "w": np.ones((2, 3), np.uint8)}, "'w' has dtype uint8, not int8"),
        ({**UPDATE, SCALES: np.ones(2, np.float32)}, "shape (2,), not float32 and (3,)"),
        ({**UPDATE, SCALES: np.ones((3, 1), np.float32)}, "shape (3, 1), not float32 and (3,)"),
        ({**UPDATE, SCALES: np.ones(3)}, "dtype float64 and shape (3,), not float32"),
        ({**UPDATE, SCALES: np.array([1, np.nan, 1], np.float32)}, "not finite numbers of 0 or above"),
        ({**UPDATE, SCALES: np.array([1, np.inf, 1], np.float32)}, "not finite numbers of 0 or above"),
        ({**UPDATE, SCALES: np.array([1, -1, 1], np.float32)}, "not finite numbers of 0 or above"),
    ],
)
def test_a_broken_update_is_refused_with_the_reason(bad, reason):
    assert check_quantised(UPDATE) is None
    assert reason in check_quantised(bad)


def test_a_change_is_taken_in_single_precision_whatever_the_weights_were():
    changed = change({"w": np.array([1.5], np.float32)}, {"w": np.array([1.0], np.float16)})
    np.testing.assert_array_equal(changed["w"], [0.5])
    assert changed["w"].dtype == np.float32


ROUNDS = 60


def steady(number):
    """Changes that point the same way in every round, as those of training do, and noise."""
    return {name: array + drawn(number + 1, 0.1)[name] for name, array in drawn(0, 0.3).items()}


def test_with_error_feedback_all_that_was_sent_is_all_that_changed_within_one_scale_and_without_it_is_not():
    changes = [steady(number) for number in range(ROUNDS)]
    residual, sent = {}, []
    for changed in changes:
        update, residual = compress(changed, residual)
        sent.append(update)
    scales = np.max([update[SCALES] for update in sent], axis=0)
    assert distance(total(map(restore, sent)), total(changes), scales) <= 0.5 + 1e-3
    without = [restore(quantise(changed)) for changed in changes]
    assert distance(total(without), total(changes), scales) > 4


def test_an_update_that_was_not_averaged_is_lost_but_the_residual_before_it_is_not():
    """A federation in which every third update is refused: what counts are the others."""
    changes = [steady(number) for number in range(ROUNDS)]
    residual, averaged, sent = {}, [], []
    for number, changed in enumerate(changes, start=1):
        update, remainder = compress(changed, residual)
        if number % 3:
            residual = remainder
            averaged.append(number)
            sent.append(update)
    scales = np.max([update[SCALES] for update in sent], axis=0)
    wanted = total([changes[number - 1] for number in averaged])
    assert distance(total(map(restore, sent)), wanted, scales) <= 0.5 + 1e-3


def test_a_change_that_is_not_finite_is_noticed():
    broken = {name: np.full_like(array, np.nan) for name, array in drawn(1).items()}
    assert check_quantised(compress(broken, {})[0]) is not None


@pytest.mark.parametrize("count", [6, 7])
def test_with_4_bits_two_values_share_a_byte_and_come_back_as_they_were(count):
    values = {"v": np.arange(-7, 8, dtype=np.float32).reshape(3, 5), "w": np.linspace(-1, 1, count, dtype=np.float32)}
    update = quantise(values, bits=4)
    np.testing.assert_array_equal(restore(update)["v"], values["v"])  # multiples of its scale
    assert np.abs(restore(update)["w"] - values["w"]).max() <= 0.5 / 7 * (1 + 1e-6)
    sent = packed(update)
    assert sent[NIBBLES].nbytes == (15 + count + 1) // 2
    assert check_packed(sent, values) is None
    back = unpacked(sent, values)
    assert back.keys() == update.keys()
    for name, array in update.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_with_4_bits_and_error_feedback_all_that_was_sent_is_all_that_changed_within_one_scale():
    residual, whole = {}, {"w": np.zeros(300, np.float32)}
    rng = np.random.default_rng(0)
    total, scale = np.zeros(300, np.float32), 0.0
    for _ in range(30):
        changed = {"w": rng.normal(0, 1, 300).astype(np.float32)}
        total += changed["w"]
        update, residual = compress(changed, residual, bits=4)
        sent = unpacked(update, whole)
        whole["w"] += restore(sent)["w"]
        scale = max(scale, float(sent[SCALES].max()))
    assert np.abs(whole["w"] - total).max() <= 0.5 * scale * (1 + 1e-4)


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"w": np.zeros(3, np.int8), SCALES: np.ones(1, np.float32)}, "in 4 bits, as 'nibbles' and 'scales', not"),
        ({NIBBLES: np.zeros(3, np.uint8), SCALES: np.ones(1, np.float32)}, r"shape \(3,\), not uint8 and \(2,\)"),
        ({NIBBLES: np.zeros(2, np.int8), SCALES: np.ones(1, np.float32)}, "dtype int8"),
    ],
)
def test_a_broken_update_of_4_bits_is_refused_with_the_reason(update, words):
    assert re.search(words, check_packed(update, {"w": np.zeros(3, np.float32)}))
