"""A source before its images are decoded."""

import numpy as np
import pytest

from fedlmd.data import Catalogue, PassedOver
from fedlmd.data.catalogue import ArrayPart, FilesPart, JoinedPart, held_out, is_image
from fedlmd.data.images import ImageError
from tests.data.samples import paint


def array_part(*labels, first=0):
    numbers = np.array(labels, dtype=np.int64)
    images = (first + np.arange(len(labels), dtype=np.uint8)).reshape(-1, 1, 1) * np.ones((4, 4), np.uint8)
    return ArrayPart(images, numbers, "here")


def corners(part):
    return [int(part.raw(index)[0, 0]) for index in range(len(part))]


def test_a_share_of_each_label_is_for_evaluation_and_nothing_is_lost():
    part = array_part(*[0] * 50, *[1] * 10, *[2] * 2, 3)
    catalogue = Catalogue("here", tuple("abcd"), {"all": part})
    train, held = catalogue.part("train", 0.2), catalogue.part("eval", 0.2)
    assert np.bincount(held.labels, minlength=4).tolist() == [10, 2, 1, 0]
    assert np.bincount(train.labels, minlength=4).tolist() == [40, 8, 1, 1]
    assert sorted(corners(train) + corners(held)) == corners(catalogue.part("all", 0.2)) == list(range(63))
    assert not catalogue.divided


def test_the_share_for_evaluation_is_drawn_at_random_and_the_same_in_every_run():
    labels = np.zeros(100, dtype=np.int64)
    first, again = held_out(labels, 0.2), held_out(labels, 0.2)
    assert np.array_equal(first, again)
    assert 0 < first[:50].sum() < 20


def test_the_share_of_one_label_does_not_depend_on_the_images_of_another():
    alone = held_out(np.zeros(20, dtype=np.int64), 0.2)
    beside = held_out(np.repeat([0, 1], [20, 7]), 0.2)
    assert np.array_equal(alone, beside[:20])


def test_a_divided_source_keeps_its_parts_and_all_is_both():
    catalogue = Catalogue("here", ("a", "b"), {"train": array_part(0, 1), "eval": array_part(1, 1, first=10)})
    assert catalogue.divided
    assert corners(catalogue.part("train", 0.2)) == [0, 1]
    assert corners(catalogue.part("eval", 0.2)) == [10, 11]
    assert corners(catalogue.part("all", 0.2)) == [0, 1, 10, 11]


def test_joined_parts_are_one_after_the_other_and_can_be_chosen_from():
    joined = JoinedPart([array_part(0, 1), array_part(first=0), array_part(2, 3, 4, first=10)])
    assert corners(joined) == [0, 1, 10, 11, 12]
    assert joined.labels.tolist() == [0, 1, 2, 3, 4]
    assert [joined.name(index) for index in (1, 2)] == ["here, image 1", "here, image 0"]
    some = joined.take(np.array([4, 0, 2]))
    assert (corners(some), some.labels.tolist()) == ([12, 0, 10], [4, 0, 2])
    assert corners(some.take(np.array([1]))) == [0]


def test_an_image_of_an_array_is_named_by_its_position_there_whatever_was_chosen():
    chosen = array_part(0, 1, 0, 1).take(np.array([1, 3])).take(np.array([1]))
    assert (chosen.name(0), corners(chosen)) == ("here, image 3", [3])


def test_files_are_read_when_they_are_asked_for(tmp_path):
    path = paint(tmp_path / "a.png")
    part = FilesPart([str(path), str(tmp_path / "gone.png")], np.array([0, 1]))
    assert part.raw(0) == path.read_bytes()
    assert part.take(np.array([1])).name(0) == str(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="cannot be read: No such file"):
        part.raw(1)


def test_a_file_of_an_absurd_size_is_not_read(tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(500_000_000)  # no bytes on the disk
    with pytest.raises(ImageError, match="more than 400,000,000 bytes"):
        FilesPart([str(tmp_path / "a.png")], np.array([0])).raw(0)


def test_what_is_passed_over_is_counted_by_reason_with_the_first_example():
    passed_over = PassedOver()
    for name in ("b.txt", "a.txt"):
        passed_over.add("no image", name)
    passed_over.add("listed twice", "c\nd", 1500)
    passed_over.add("a file or folder of the system", ".DS_Store")
    assert len(passed_over) == 1503
    assert passed_over.sentences() == [
        r"1,500 passed over: listed twice (such as 'c\nd')",
        "2 passed over: no image (such as b.txt)",
        "1 passed over: a file or folder of the system (such as .DS_Store)",
    ]
    assert passed_over.sentences(system=False) == passed_over.sentences()[:2]


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "b.jfif", "b.jpe", "c.tif", "c.TIFF", "d.dcm", "e.mpo", "f.x.webp"])
def test_names_of_images_are_known_by_their_end(name):
    assert is_image(name)


@pytest.mark.parametrize("name", ["a.txt", "png", "a.png.txt", "a.svg", "a.psd", "a.heic", ""])
def test_other_names_are_no_images(name):
    assert not is_image(name)
