"""Labels as text: their normal form, their order, and those that look alike."""

import unicodedata

import pytest

from fedlmd.data import PartitionConfig, normal_label
from fedlmd.data.catalogue import numbered
from fedlmd.data.labels import alike, label_notes, natural

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "Bär") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cat", "cat"),
        (" cat \t", "cat"),
        ("big\n  cat", "big cat"),
        ("big\u00a0cat", "big cat"),
        (DECOMPOSED, COMPOSED),
        ("7", "7"),
        ("07", "07"),
        ("\uff17", "\uff17"),
        ("[red]", "[red]"),
        ("caf\udce9", "caf\ufffd"),
        ("\x1b[31mred\x00", "\ufffd[31mred\ufffd"),
    ],
)
def test_a_label_has_one_normal_form(name, label):
    assert normal_label(name) == label
    assert normal_label(label) == label


def test_a_label_can_always_be_written_as_utf_8():
    assert normal_label("a\udcff\udc80b").encode()


def test_two_comes_before_ten():
    names = ["10", "2", "b10", "b9", "a", "07", "7", "Ä", "z", ""]
    assert sorted(names, key=natural) == ["", "2", "07", "7", "10", "a", "b9", "b10", "z", "Ä"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["cat", "Cat", "dog"], [("Cat", "cat")]),
        (["7", "07", "70"], [("07", "7")]),
        (["7", "\uff17"], [("7", "\uff17")]),
        (["0", "00", "10", "100"], [("0", "00")]),
        (["straße", "STRASSE"], [("STRASSE", "straße")]),
        (["ﬁsh", "fish"], [("fish", "ﬁsh")]),
        (["cat", "cat"], []),
        (["cat", "cot"], []),
    ],
)
def test_labels_that_look_alike_are_grouped(names, groups):
    assert alike(names) == groups


def test_what_is_changed_and_what_looks_alike_is_said():
    assert label_notes(["cat", "dog"]) == []
    assert label_notes(["cat "]) == ["'cat ' is the label 'cat'"]
    assert label_notes(["cat ", "cat"]) == ["'cat' and 'cat ' are one label 'cat'"]
    (note,) = label_notes(["cat", "Cat"])
    assert note == (
        "the labels 'Cat' and 'cat' look alike and are taken for different ones; if they are one, give them one name"
    )


def test_names_of_one_label_get_one_number():
    labels, numbers, notes = numbered(["10", DECOMPOSED, "2", COMPOSED, "2 "])
    assert labels == ("2", "10", COMPOSED)
    assert numbers == {"10": 1, DECOMPOSED: 2, "2": 0, COMPOSED: 2, "2 ": 0}
    assert notes == ["'2' and '2 ' are one label '2'"]


def test_the_lists_of_a_partition_hold_normal_labels():
    assert PartitionConfig("labels", 1, ((" cat", DECOMPOSED),)).lists == (("cat", COMPOSED),)
