import os

import numpy as np
import pytest

from fedlmd.memory import Kept, Memory


def kept(value):
    return Kept({"w": np.full(2, value, np.float32)}, {"v": np.full((1, 3), -value, np.float32)})


def own(memory, number):
    return {name: array.tolist() for name, array in memory.own(number).items()}


@pytest.fixture(params=[False, True], ids=["one process", "a new process each time"])
def memory(tmp_path, request):
    """Opens a run's memory: the same one again and again, or each time a new one of the same folder."""
    only = Memory()

    def opened(run):
        found = Memory(tmp_path / "memory") if request.param else only
        found.open(run)
        return found

    return opened


def test_a_round_begins_with_the_layers_of_the_last_one_before_it_and_owes_what_its_last_average_left(memory):
    assert (own(memory("r"), 1), memory("r").owed(0)) == ({}, {})
    for number, averaged in ((1, 0), (2, 1), (3, 1)):
        memory("r").keep(number, kept(number), averaged)
    # Round 3 again, round 4 after an average of round 1, 2 or 3 alone.
    assert own(memory("r"), 3) == {"w": [2, 2]}
    assert own(memory("r"), 4) == {"w": [3, 3]}
    for averaged in (1, 2, 3):
        np.testing.assert_array_equal(memory("r").owed(averaged)["v"], np.full((1, 3), -averaged))
    # What no round can begin with any more is forgotten.
    memory("r").keep(4, kept(4), 3)
    assert sorted(memory("r").rounds) == [3, 4]


def test_another_run_and_an_ended_one_leave_nothing(memory, tmp_path):
    memory("r").keep(1, kept(1))
    assert own(memory("s"), 2) == {}
    assert own(memory("r"), 2) == {}, "one run at a time"
    memory("r").keep(1, kept(1))
    memory("r").forget()
    assert own(memory("r"), 2) == {}
    assert list(tmp_path.glob("*/*")) == []


def test_a_site_that_keeps_nothing_writes_nothing(tmp_path):
    memory = Memory(tmp_path / "memory")
    memory.open("r")
    memory.keep(1, Kept())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spoil", [lambda data: data[:40], lambda data: b"", lambda data: data[:-1]])
def test_a_damaged_file_is_forgotten_and_the_others_are_not(tmp_path, spoil):
    memory = Memory(tmp_path)
    memory.open("r")
    for number in (1, 2):
        memory.keep(number, kept(number), number - 1)
    path = tmp_path / "round-002.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    (tmp_path / "round-x.safetensors").write_bytes((tmp_path / "round-001.safetensors").read_bytes())
    again = Memory(tmp_path)
    again.open("r")
    assert own(again, 3) == {"w": [1, 1]}
    assert [path.name for path in tmp_path.iterdir()] == ["round-001.safetensors"]


def test_a_disk_without_room_costs_no_round(tmp_path, caplog):
    # A file where the folder should be refuses as a full disk does, also to root.
    (tmp_path / "memory").touch()
    memory = Memory(tmp_path / "memory")
    memory.open("r")
    memory.keep(1, kept(1))
    assert own(memory, 2) == {"w": [1, 1]}
    assert "round 1 is kept in this process alone" in caplog.text
    assert os.listdir(tmp_path) == ["memory"]
