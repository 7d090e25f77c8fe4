"""Releases on disk: whole or not there, and nothing in them is ever run."""

import hashlib
import json
import os
import pickle
import time

import numpy as np
import pytest
from safetensors.numpy import save as save_tensors

from fedlmd.release import store
from fedlmd.release.store import (
    FORMAT,
    ReleaseError,
    current_release,
    identify,
    list_releases,
    load_release,
    save_release,
    set_current,
    write_through,
)

CARD = {"settings": {"labels": ["0", "é"]}, "metrics": {"accuracy": 0.5}}
WEIGHTS = {
    "classifier.head.weight": np.arange(6, dtype=np.float16).reshape(2, 3),
    "denoiser.stem.bias": np.array([0.1, -2.5], dtype=np.float32),
}


def forge(folder, card, tensors):
    """A release with a right id, whatever is in it."""
    card = {"format": FORMAT, **card}
    card["id"] = identify(card, tensors)
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(tensors)
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def test_what_was_saved_is_loaded_bit_for_bit(tmp_path):
    path = save_release(tmp_path / "new" / "releases", CARD, WEIGHTS)
    release = load_release(path)
    assert release.id == release.card["id"] == path.name
    assert {key: release.card[key] for key in CARD} == CARD
    assert release.weights.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        assert release.weights[name].dtype == array.dtype
        assert np.array_equal(release.weights[name], array)


def test_arrays_that_do_not_lie_in_one_piece_are_saved_too(tmp_path):
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(load_release(save_release(tmp_path, CARD, {"a": table.T})).weights["a"], table.T)


def test_a_release_is_two_files_that_others_can_read(tmp_path):
    path = save_release(tmp_path, CARD, WEIGHTS)
    assert sorted(file.name for file in path.iterdir()) == ["card.json", "weights.safetensors"]
    assert path.stat().st_mode & 0o777 == 0o755
    assert "é" in (path / "card.json").read_text(encoding="utf-8")


def test_the_id_follows_from_the_content_alone(tmp_path):
    first, elsewhere = save_release(tmp_path / "a", CARD, WEIGHTS), save_release(tmp_path / "b", CARD, WEIGHTS)
    assert first.name == elsewhere.name == save_release(tmp_path / "a", CARD, WEIGHTS).name
    assert len(first.name) == 12
    assert set(first.name) <= set("0123456789abcdef")
    assert len(list_releases(tmp_path / "a")) == 1


def test_the_id_is_the_documented_digest_and_stays_what_it_was():
    # A release that was made by an earlier version must still be read.
    digest = hashlib.sha256(hashlib.sha256(b"tensors").digest() + '{"a": ["é"], "b": 1}'.encode()).hexdigest()
    assert identify({"b": 1, "a": ["é"], "id": "ignored"}, b"tensors") == digest[:12]


@pytest.mark.parametrize("key", ["settings", "metrics", "training"])
def test_any_other_card_has_another_id(tmp_path, key):
    assert save_release(tmp_path, {**CARD, key: {"other": 1}}, WEIGHTS) != save_release(tmp_path, CARD, WEIGHTS)


def test_any_other_weight_has_another_id(tmp_path):
    other = {**WEIGHTS, "denoiser.stem.bias": np.array([0.1, -2.5000002], dtype=np.float32)}
    assert save_release(tmp_path, CARD, other) != save_release(tmp_path, CARD, WEIGHTS)


def test_a_card_with_tuples_and_numbered_keys_keeps_its_id_through_json(tmp_path):
    path = save_release(tmp_path, {"levels": (0.1, 0.2), "by-number": {1: "a"}}, WEIGHTS)
    assert load_release(path).card["levels"] == [0.1, 0.2]
    assert load_release(path).card["by-number"] == {"1": "a"}


@pytest.mark.parametrize("file", ["card.json", "weights.safetensors"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_damage_to_either_file_is_noticed(tmp_path, file, place):
    path = save_release(tmp_path, CARD, WEIGHTS) / file
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ReleaseError, match=r"was damaged or altered|cannot be read"):
        load_release(path.parent)


@pytest.mark.parametrize("file", ["card.json", "weights.safetensors"])
def test_a_file_that_was_cut_short_is_noticed(tmp_path, file):
    path = save_release(tmp_path, CARD, WEIGHTS) / file
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ReleaseError, match=r"was damaged or altered|cannot be read"):
        load_release(path.parent)


@pytest.mark.parametrize("file", ["card.json", "weights.safetensors"])
def test_a_missing_file_is_named(tmp_path, file):
    path = save_release(tmp_path, CARD, WEIGHTS)
    (path / file).unlink()
    with pytest.raises(ReleaseError, match=f"is not a release: {file} is missing"):
        load_release(path)


def test_installing_a_damaged_release_again_mends_it(tmp_path):
    path = save_release(tmp_path, CARD, WEIGHTS)
    (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ReleaseError, match="install it again"):
        load_release(path)
    assert save_release(tmp_path, CARD, WEIGHTS) == path
    assert load_release(path).id == path.name


@pytest.mark.parametrize("content", ["[]", '{"format": 99}', "{}", '"card"'])
def test_another_format_is_refused(tmp_path, content):
    path = save_release(tmp_path, CARD, WEIGHTS)
    (path / "card.json").write_text(content)
    with pytest.raises(ReleaseError, match="has not the release format 3"):
        load_release(path)


def test_a_card_that_is_no_json_is_refused(tmp_path):
    path = save_release(tmp_path, CARD, WEIGHTS)
    (path / "card.json").write_bytes(b"\xff{")
    with pytest.raises(ReleaseError, match="cannot be read"):
        load_release(path)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_a_pickle_in_the_place_of_the_weights_is_refused_and_not_run(tmp_path):
    path = forge(tmp_path / "forged", CARD, pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ReleaseError, match="is not a safetensors file"):
        load_release(path)
    assert not (tmp_path / "sprung").exists()


def test_numbers_of_a_kind_that_numpy_lacks_are_refused(tmp_path):
    tensors = save_tensors({"a": np.zeros(4, dtype=np.float16)}).replace(b'"F16"', b'"BF16"').replace(b"} ", b"}")
    with pytest.raises(ReleaseError, match="of a kind that numpy does not know"):
        load_release(forge(tmp_path / "forged", CARD, tensors))


@pytest.mark.parametrize("step", ["write_through", "replace"])
def test_a_release_that_could_not_be_finished_is_never_seen(tmp_path, monkeypatch, step):
    calls = []

    def fail(*arguments):
        calls.append(arguments)
        raise OSError("no space left on device")

    if step == "replace":
        monkeypatch.setattr(os, "replace", fail)
    else:
        write = write_through
        # The weights are written, the card is not.
        monkeypatch.setattr(
            store, "write_through", lambda path, data: (fail if path.suffix == ".json" else write)(path, data)
        )
    with pytest.raises(OSError, match="no space left"):
        save_release(tmp_path, CARD, WEIGHTS)
    assert len(calls) == 1
    assert list_releases(tmp_path) == []
    assert current_release(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_behind_is_not_a_release(tmp_path):
    path = save_release(tmp_path, CARD, WEIGHTS)
    path.rename(tmp_path / ".part-killed")
    assert list_releases(tmp_path) == []
    assert current_release(tmp_path) is None


@pytest.fixture
def three(tmp_path):
    """Three releases, oldest first."""
    paths = []
    for number in range(3):
        paths.append(save_release(tmp_path, {**CARD, "number": number}, WEIGHTS))
        os.utime(paths[-1] / "card.json", (time.time(), 1_000_000_000 + number))
    return paths


def test_releases_are_listed_newest_first(tmp_path, three):
    assert list_releases(tmp_path) == three[::-1]
    assert list_releases(tmp_path / "missing") == []


def test_the_current_release_is_the_chosen_one_and_else_the_newest(tmp_path, three):
    assert current_release(tmp_path) == three[2]
    set_current(tmp_path, three[0].name)
    assert current_release(tmp_path) == three[0]
    set_current(tmp_path, three[1].name)
    assert current_release(tmp_path) == three[1]
    assert list_releases(tmp_path) == three[::-1]


def test_when_the_chosen_release_was_removed_the_newest_takes_its_place(tmp_path, three):
    set_current(tmp_path, three[0].name)
    for file in three[0].iterdir():
        file.unlink()
    three[0].rmdir()
    assert current_release(tmp_path) == three[2]


@pytest.mark.parametrize("name", ["", "nothing", ".", "../elsewhere"])
def test_only_a_release_that_is_there_can_be_chosen(tmp_path, three, name):
    with pytest.raises(ReleaseError, match=f"there is no release .* there are {three[2].name}, {three[1].name}"):
        set_current(tmp_path, name)
    assert current_release(tmp_path) == three[2]


def test_in_an_empty_folder_there_is_nothing_to_choose(tmp_path):
    with pytest.raises(ReleaseError, match="there are none"):
        set_current(tmp_path, "0" * 12)
