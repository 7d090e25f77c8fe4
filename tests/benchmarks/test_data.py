import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.data import linked
from fedlmd.data import scan

rng = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 20), ("test", 5)):
        for label in ("a", "b"):
            (tmp_path / "set" / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / part / label / f"{number}.png")
    return tmp_path / "set"


def test_a_part_of_the_images_keeps_labels_and_parts(folder, tmp_path):
    assert linked(str(folder), tmp_path / "part", 20) == 50
    part = scan(str(tmp_path / "part"))
    assert {split: len(images) for split, images in part.parts.items()} == {"train": 16, "eval": 4}
    assert part.labels == ("a", "b")


@pytest.mark.parametrize(("few", "sentence"), [(50, "give a folder with more than 50"), (60, "has 50 images")])
def test_a_folder_with_too_few_images_is_refused(folder, tmp_path, few, sentence):
    with pytest.raises(ValueError, match=sentence):
        linked(str(folder), tmp_path / "part", few)


def test_a_source_without_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no folder of image files"):
        linked("mnist", tmp_path / "part", 10)


def test_seconds_and_memory_of_a_part_and_of_all_images_are_measured(folder, tmp_path):
    result = CliRunner().invoke(app, ["data", str(folder), "--few", "10", "--json", str(tmp_path / "data.json")])
    assert result.exit_code == 0, result.output
    measured = json.loads((tmp_path / "data.json").read_text())
    assert [(row["work"], row["images"]) for row in measured["rows"]] == [
        ("check", 10),
        ("check", 50),
        ("load", 10),
        ("load", 50),
    ]
    assert all(row["peak_mib"] >= row["before_mib"] > 50 for row in measured["rows"])
    assert measured["figures"]["check_files_per_second"] > 0
