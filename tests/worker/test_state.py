import os

import numpy as np
import pytest

from fedlmd.worker.state import ClientState, RoundState


def state(value):
    return RoundState({"w": np.full(2, value, np.float32)}, {"v": np.full((1, 3), -value, np.float32)})


def local_layers(client_state, number):
    return {name: array.tolist() for name, array in client_state.local_layers(number).items()}


@pytest.fixture(params=[False, True], ids=["one process", "a new process each time"])
def open_state(tmp_path, request):
    """Opens a run's client state: always the same, or each time a new one of the same folder."""
    single = ClientState()

    def opened(run):
        client_state = ClientState(tmp_path / "state") if request.param else single
        client_state.open(run)
        return client_state

    return opened


def test_a_round_begins_with_the_layers_of_the_round_before_and_the_residual_of_the_last_average(
    open_state,
):
    assert (local_layers(open_state("r"), 1), open_state("r").residual(0)) == ({}, {})
    for number, averaged in ((1, 0), (2, 1), (3, 1)):
        open_state("r").keep(number, state(number), averaged)
    # Round 3 again, round 4 after an average of round 1, 2 or 3 alone.
    assert local_layers(open_state("r"), 3) == {"w": [2, 2]}
    assert local_layers(open_state("r"), 4) == {"w": [3, 3]}
    for averaged in (1, 2, 3):
        np.testing.assert_array_equal(open_state("r").residual(averaged)["v"], np.full((1, 3), -averaged))
    # What no round can begin with any more is removed.
    open_state("r").keep(4, state(4), 3)
    assert sorted(open_state("r").rounds) == [3, 4]


def test_another_run_and_an_ended_one_leave_nothing(open_state, tmp_path):
    open_state("r").keep(1, state(1))
    assert local_layers(open_state("s"), 2) == {}
    assert local_layers(open_state("r"), 2) == {}, "one run at a time"
    open_state("r").keep(1, state(1))
    open_state("r").clear()
    assert local_layers(open_state("r"), 2) == {}
    assert list(tmp_path.glob("*/*")) == []


def test_a_worker_that_keeps_nothing_writes_nothing(tmp_path):
    client_state = ClientState(tmp_path / "state")
    client_state.open("r")
    client_state.keep(1, RoundState())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spoil", [lambda data: data[:40], lambda data: b"", lambda data: data[:-1]])
def test_a_damaged_file_is_removed_and_the_others_are_kept(tmp_path, spoil):
    client_state = ClientState(tmp_path)
    client_state.open("r")
    for number in (1, 2):
        client_state.keep(number, state(number), number - 1)
    path = tmp_path / "round-002.safetensors"
    path.write_bytes(spoil(path.read_bytes()))
    (tmp_path / "round-x.safetensors").write_bytes((tmp_path / "round-001.safetensors").read_bytes())
    again = ClientState(tmp_path)
    again.open("r")
    assert local_layers(again, 3) == {"w": [1, 1]}
    assert [path.name for path in tmp_path.iterdir()] == ["round-001.safetensors"]


def test_on_a_full_disk_the_round_still_counts(tmp_path, caplog):
    # A file where the folder should be refuses as a full disk does, also to root.
    (tmp_path / "state").touch()
    client_state = ClientState(tmp_path / "state")
    client_state.open("r")
    client_state.keep(1, state(1))
    assert local_layers(client_state, 2) == {"w": [1, 1]}
    assert "round 1 is kept in this process alone" in caplog.text
    assert os.listdir(tmp_path) == ["state"]
