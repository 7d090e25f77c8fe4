"""Intermediate results in files."""

import numpy as np
import pytest

from benchmarks.storage import load_arrays, prefixed, save_arrays, save_json, stored
from fedlmd.progress import Progress, drain


def work(result):
    yield Progress("counting", 1, 2)
    return result


def test_arrays_are_read_as_they_were_written_for_the_same_key_alone(tmp_path):
    file = tmp_path / "deep" / "a.npz"
    save_arrays(file, "key", x=np.arange(3), y=2.5)
    arrays = load_arrays(file, "key")
    assert arrays.keys() == {"x", "y"}
    assert (arrays["x"].tolist(), float(arrays["y"])) == ([0, 1, 2], 2.5)
    assert load_arrays(file) is not None
    assert load_arrays(file, "other") is None
    assert load_arrays(tmp_path / "b.npz") is None
    assert [path.name for path in file.parent.iterdir()] == ["a.npz"]


def test_a_damaged_file_counts_as_none(tmp_path):
    file = tmp_path / "a.npz"
    save_arrays(file, "key", x=np.arange(3))
    whole = file.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive", b"PK damaged"):
        file.write_bytes(damaged)
        assert load_arrays(file, "key") is None


def test_work_is_done_once_and_its_result_is_that_of_the_file(tmp_path):
    file, steps = tmp_path / "deep" / "a.json", []
    assert drain(stored(file, lambda: work({"a": (1, 2)})), steps.append) == {"a": [1, 2]}
    assert steps == [Progress("counting", 1, 2)]
    assert drain(stored(file, lambda: pytest.fail("it was done again"))) == {"a": [1, 2]}


def test_work_that_is_stopped_leaves_no_file(tmp_path):
    steps = stored(tmp_path / "a.json", lambda: work(1))
    next(steps)
    steps.close()
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError):
        save_json(tmp_path / "a.json", object())
    assert not (tmp_path / "a.json").exists()


def test_stages_get_a_prefix():
    steps = []
    assert drain(prefixed("round 1", work(7)), steps.append) == 7
    assert steps == [Progress("round 1 counting", 1, 2)]
