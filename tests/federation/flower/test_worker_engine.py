import socket

import pytest

from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.worker_engine import WorkerEngine


def test_a_name_that_cannot_be_passed_on_is_refused(tmp_path):
    for name in ('a "quoted" name', "a\\b"):
        with pytest.raises(EngineError, match="must be without quotation marks and backslashes"):
            WorkerEngine(tmp_path, name, "127.0.0.1:1", 1, {})


def test_a_port_in_use_is_named_and_nothing_is_started(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine = WorkerEngine(tmp_path, "a", "127.0.0.1:1", taken.getsockname()[1], {})
        with pytest.raises(EngineError, match="cannot be used"):
            engine.start()
    assert engine.pid is None
    assert list(tmp_path.iterdir()) == []
