import numpy as np

from fedlmd.data.check.copies import Copies, copies_of
from fedlmd.data.check.measure import ROW


def rows(hashes, evaluation, labels, readable=None):
    made = np.zeros(len(hashes), dtype=ROW)
    made["pixels"], made["evaluation"], made["label"] = hashes, evaluation, labels
    made["readable"] = True if readable is None else readable
    return made


def test_copies_are_counted_within_parts_across_parts_and_across_labels():
    counted = copies_of(
        rows(
            [7, 7, 7, 1, 9, 9, 5, 5, 3],
            [0, 0, 1, 0, 1, 1, 0, 0, 0],
            [0, 0, 0, 0, 1, 1, 0, 1, 1],
        )
    )
    assert (counted.groups, counted.repeated, counted.leaked, counted.contradictory) == (3, 2, 1, 2)
    assert counted.repeated_examples == ((0, 1), (4, 5))
    assert counted.leaked_examples == ((0, 2),)
    assert counted.contradictory_examples == ((6, 7),)


def test_images_that_cannot_be_decoded_are_no_copies():
    assert copies_of(rows([0, 0, 1], [0, 0, 0], [0, 0, 0], [False, False, True])) == Copies()


def test_no_image_at_all_has_no_copy():
    assert copies_of(rows([], [], [])) == Copies()


def test_examples_are_few_and_the_first_ones():
    hashes = np.repeat(np.arange(50, dtype=np.uint64)[::-1], 2)
    counted = copies_of(rows(hashes, np.zeros(100), np.zeros(100)))
    assert counted.repeated == 50
    assert counted.repeated_examples == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
