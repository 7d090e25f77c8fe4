import os
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest

from fedlmd.federation.trainer.connection import LONGEST_PATH, check_socket_path, read_frame, write_frame


def test_a_frame_survives_the_connection_with_and_without_arrays():
    here, there = Pipe()
    write_frame(here, "status", busy=True, text="\u00e4")
    write_frame(here, "result", {"w": np.arange(6, dtype=np.float16).reshape(2, 3).T}, metrics={"loss": 0.5})
    status, result = read_frame(there), read_frame(there)
    assert (status.kind, status.fields, status.weights) == ("status", {"busy": True, "text": "\u00e4"}, None)
    assert (result.kind, result.fields) == ("result", {"metrics": {"loss": 0.5}})
    np.testing.assert_array_equal(result.weights["w"], np.arange(6).reshape(2, 3).T)
    assert result.weights["w"].dtype == np.float16
    here.close()
    with pytest.raises(EOFError):
        read_frame(there)


def test_the_longest_socket_path_is_measured_in_bytes():
    check_socket_path(Path("/" + "a" * (LONGEST_PATH - 1)))
    with pytest.raises(ValueError, match="at most 100 work"):
        check_socket_path(Path("/" + "a" * LONGEST_PATH))
    with pytest.raises(ValueError, match="has 101 bytes"):
        check_socket_path(Path(os.fsdecode(b"/" + 50 * "\u00e4".encode())))
