import numpy as np
import pytest

from benchmarks.numpy_trainer import FAULTY_UPDATES, NumpyTrainer, trained_array
from fedlmd.calibration import LEVELS
from fedlmd.federation.messages import check_update
from fedlmd.progress import Progress, Result, drain


def test_what_a_round_makes_depends_on_the_round_on_what_came_before_and_on_the_worker():
    first = trained_array(np.zeros(2, np.float32), 1, 0.5)
    np.testing.assert_array_equal(first, np.full(2, 1.5, np.float32))
    np.testing.assert_array_equal(trained_array(first, 2, 0.0), np.full(2, 2.75, np.float32))
    assert first.dtype == np.float32


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("", None),
        ("nan", "'w' holds values that are not finite numbers"),
        ("inf", "'w' holds values that are not finite numbers"),
        ("shapes", "'w' has shape (1, 2), not (2,)"),
        ("names", "'w' is missing (1 of 1 arrays are)"),
        ("scale", None),
    ],
)
def test_each_fault_is_one_that_the_guard_knows(fault, words):
    sent, trained = {"w": np.ones(2, np.float32)}, {"w": np.full(2, 3, np.float32)}
    faulty = FAULTY_UPDATES[fault](sent, trained)
    assert check_update(faulty, sent) == words
    assert fault != "scale" or faulty["w"].tolist() == [201, 201]


def test_a_trainer_notes_its_calls_and_behaves_as_the_run_says(tmp_path):
    for name in ("gates", "calls"):
        (tmp_path / name).mkdir()
    (tmp_path / "gates" / "2").touch()
    trainer, weights = NumpyTrainer("worker-1", tmp_path), {"classifier.w": np.zeros((1, 1), np.float32)}
    settings = {"cluster": str(tmp_path), "workers": {"worker-1": {"step": 2.0, "examples": 7, "seconds": 0.0}}}
    result = drain(trainer.handle("train", {"settings": settings, "run": "a run", "round": 1}, weights))
    assert isinstance(result, Result)
    assert (result.metrics["num-examples"], result.weights["classifier.w"].tolist()) == (7, [[3.0]])
    blocked = trainer.handle("train", {"settings": settings, "run": "a run", "round": 2}, weights)
    assert all(isinstance(next(blocked), Progress) for _ in range(3))
    (tmp_path / "gates" / "2").unlink()
    assert isinstance(drain(blocked), Result)
    assert (tmp_path / "calls" / "worker-1").read_text() == "a run 1\na run 2\n"


def test_its_sketches_have_as_many_values_as_the_server_expects(tmp_path):
    (tmp_path / "gates").mkdir()
    config = {"settings": {"cluster": str(tmp_path)}, "moments": {"lmd": {"count": 3}}}
    result = drain(NumpyTrainer("worker-1", tmp_path).handle("thresholds", config, {}))
    assert len(result.metrics["lmd"]["values"]) == len(LEVELS)
    with pytest.raises(ValueError, match="unknown action 'dance'"):
        drain(NumpyTrainer("worker-1", tmp_path).handle("dance", config, {}))
