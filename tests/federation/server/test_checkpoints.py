import resource
import subprocess
import sys

import numpy as np
import pytest

from fedlmd.federation.events import EventLog
from fedlmd.federation.server.checkpoints import (
    CheckpointError,
    first_checkpoint,
    last_good,
    load_checkpoint,
    save_checkpoint,
)

INITIAL = {"w": np.zeros(3, np.float32)}


def weights(value):
    return {"w": np.full(3, value, np.float32)}


def rounds(folder, *numbers):
    """Rounds that changed the weights: number n has the weights n."""
    for number in numbers:
        save_checkpoint(folder, number, weights(number), {})
        EventLog(folder).append("round", round=number, aggregated=True)


def test_a_checkpoint_holds_the_weights_and_beside_them_the_arrays_of_the_strategy(tmp_path):
    momentum = {"momentum/w": np.arange(3, dtype=np.float64)}
    save_checkpoint(tmp_path, 2, weights(7), momentum)
    checkpoint = load_checkpoint(tmp_path, {"round": 2, "metrics": {"a": 1}}, INITIAL)
    assert (checkpoint.round, checkpoint.event["metrics"]) == (2, {"a": 1})
    assert (list(checkpoint.weights), list(checkpoint.state)) == (["w"], ["momentum/w"])
    np.testing.assert_array_equal(checkpoint.weights["w"], [7, 7, 7])
    np.testing.assert_array_equal(checkpoint.state["momentum/w"], [0, 1, 2])
    assert checkpoint.state["momentum/w"].dtype == np.float64


def test_a_run_continues_after_the_last_round_that_changed_the_weights(tmp_path):
    assert last_good(tmp_path, INITIAL) == (0, [])
    rounds(tmp_path, 1, 2)
    save_checkpoint(tmp_path, 3, weights(2), {})
    EventLog(tmp_path).append("round", round=3, aggregated=False)
    save_checkpoint(tmp_path, 4, weights(4), {})  # killed before it wrote its line
    assert last_good(tmp_path, INITIAL) == (2, [])


def test_incomplete_checkpoints_are_skipped_with_the_reason(tmp_path):
    rounds(tmp_path, 1, 2, 3, 4, 5)
    five, four = tmp_path / "round-005.safetensors", tmp_path / "round-004.safetensors"
    five.write_bytes(five.read_bytes()[:-5])
    four.unlink()
    save_checkpoint(tmp_path, 3, {"w": np.array([1, np.nan, 1], np.float32)}, {})
    number, skipped = last_good(tmp_path, INITIAL)
    assert number == 2
    assert skipped[0].startswith("round-005.safetensors is incomplete: ")
    assert skipped[1:] == [
        "round-004.safetensors is missing",
        "round-003.safetensors does not fit the run: 'w' holds values that are not finite numbers",
    ]


@pytest.mark.parametrize("kept", range(0, 76, 5))
def test_a_checkpoint_cut_off_anywhere_is_incomplete(tmp_path, kept):
    save_checkpoint(tmp_path, 1, weights(1), {})
    path = tmp_path / "round-001.safetensors"
    assert path.stat().st_size > kept
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="is incomplete"):
        load_checkpoint(tmp_path, {"round": 1}, INITIAL)


def test_a_checkpoint_of_another_model_does_not_fit(tmp_path):
    save_checkpoint(tmp_path, 1, {"w": np.zeros(4, np.float32)}, {})
    with pytest.raises(CheckpointError, match=r"does not fit the run: 'w' has shape \(4,\), not \(3,\)"):
        load_checkpoint(tmp_path, {"round": 1}, INITIAL)


def test_rounds_after_the_one_that_was_resumed_do_not_count_any_more(tmp_path):
    rounds(tmp_path, 1, 2, 3)
    EventLog(tmp_path).append("resumed", round=1)
    assert last_good(tmp_path, INITIAL) == (1, [])
    rounds(tmp_path, 2)
    assert last_good(tmp_path, INITIAL) == (2, [])


def test_a_runs_process_starts_where_the_log_says_that_it_was_resumed(tmp_path):
    rounds(tmp_path, 1, 2)
    assert first_checkpoint(tmp_path, INITIAL).round == 0
    np.testing.assert_array_equal(first_checkpoint(tmp_path, INITIAL).weights["w"], INITIAL["w"])
    EventLog(tmp_path).append("resumed", round=2)
    EventLog(tmp_path).append("started")
    start = first_checkpoint(tmp_path, INITIAL)
    assert (start.round, start.event["round"], start.weights["w"].tolist()) == (2, 2, [2, 2, 2])
    EventLog(tmp_path).append("resumed", round=0)
    assert first_checkpoint(tmp_path, INITIAL).event == {}


FILL = """
import sys
from pathlib import Path
import numpy as np
from fedlmd.federation.server.checkpoints import save_checkpoint
from fedlmd.federation.plan import NotWritten
try:
    save_checkpoint(Path(sys.argv[1]), 2, {"w": np.ones(5000, np.float32)}, {})
except NotWritten as error:
    print(error)
"""


def test_a_full_disk_keeps_nothing_of_a_checkpoint_and_all_before_it(tmp_path):
    rounds(tmp_path, 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    done = subprocess.run(
        [sys.executable, "-c", FILL, tmp_path], preexec_fn=small_files, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"round-002.safetensors could not be written to {tmp_path} (File too large): make")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert last_good(tmp_path, INITIAL) == (1, [])
