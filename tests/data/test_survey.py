"""What a source holds, by a look at a sample of its images."""

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import DataConfig, DataError, load, survey
from tests.data.samples import RAMP, encode, tree

FILES = {f"{label}/{number}.png": level + number for label, level in (("a", 10), ("b", 60)) for number in range(10)}
DIVISION = (
    "there is no part to evaluate on: 20% of each label are split off for it, the same images in every run "
    "(data.evaluation)"
)


def test_labels_and_their_images_are_counted_as_they_are_loaded(tmp_path):
    tree(tmp_path, FILES | {"c/1.png": 1})
    result = survey(str(tmp_path))
    assert result.source == str(tmp_path)
    assert result.labels == {
        "a": {"train": 8, "eval": 2},
        "b": {"train": 8, "eval": 2},
        "c": {"train": 1, "eval": 0},
    }
    for split in ("train", "eval"):
        counts = load(str(tmp_path), split).labels.bincount(minlength=3).tolist()
        assert counts == [result.labels[label][split] for label in "abc"]
    assert result.notes == (DIVISION,)
    assert result.facts.images == 21


def test_a_source_with_parts_is_counted_by_them(tmp_path):
    tree(tmp_path, {"train/a/1.png": 1, "train/b/1.png": 2, "test/b/1.png": 3})
    result = survey(tmp_path.name, root=tmp_path.parent)
    assert result.labels == {"a": {"train": 1, "eval": 0}, "b": {"train": 1, "eval": 1}}
    assert result.notes == ()


def test_the_shipped_digits_are_grey_squares_of_white_ink_on_black():
    result = survey("mnist", sample=50)
    assert result.labels["7"] == {"train": 6265, "eval": 1028}
    facts = result.facts
    assert (facts.images, facts.side, facts.colour, facts.light, facts.deep, facts.oblong) == (50, 28, 0, 0, 0, 0)


def test_the_sample_is_the_same_every_time_and_from_all_parts(tmp_path):
    np.savez(tmp_path / "many.npz", x=np.repeat(RAMP[None], 500, 0), y=np.arange(500) % 2)
    first, again = (survey(str(tmp_path / "many.npz"), sample=20) for _ in range(2))
    assert first == again
    assert first.facts.images == 20


def test_what_is_guessed_changed_or_passed_over_is_said(tmp_path):
    tree(tmp_path, FILES | {"c ": None, "c /1.png": 1, "d": None, "a/notes.txt": "x", "a/broken.png": b"x", ".x": "x"})
    notes = survey(str(tmp_path), config=DataConfig(evaluation=0.5)).notes
    assert "'c ' is the label 'c'" in notes
    assert DIVISION.replace("20%", "50%") in notes
    assert "1 passed over: an empty folder (such as d)" in notes
    assert "1 passed over: no image by its name (.txt) (such as a/notes.txt)" in notes
    assert "1 passed over: a file or folder of the system (such as .x)" in notes
    (damaged,) = [note for note in notes if "cannot be decoded" in note]
    assert damaged.endswith(f"(such as {tmp_path}/a/broken.png), among 22 looked at")


@pytest.mark.parametrize("extra", [{"d": None}, {"README.md": "x"}])
def test_strict_refuses_what_would_be_passed_over(tmp_path, extra):
    tree(tmp_path, FILES | extra)
    with pytest.raises(DataError, match=r"1 passed over: .*; strict is true"):
        survey(str(tmp_path), config=DataConfig(strict=True))


def test_strict_takes_no_offence_at_files_of_the_system(tmp_path):
    tree(tmp_path, FILES | {".DS_Store": "x", "@eaDir/1.png": 1})
    assert survey(str(tmp_path), config=DataConfig(strict=True)).labels["a"] == {"train": 8, "eval": 2}


def test_a_source_of_damaged_images_is_refused(tmp_path):
    tree(tmp_path, {"a/1.png": b"x", "a/2.png": encode(Image.fromarray(RAMP))[:-300]})
    with pytest.raises(DataError, match=r"has no image that can be decoded: 1 passed over: .*; 1 passed over"):
        survey(str(tmp_path))
