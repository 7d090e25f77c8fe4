import numpy as np
import pytest

from fedlmd.bench.numpy_trainer import SPOILT, NumpyTrainer, law
from fedlmd.federation.messages import check_update
from fedlmd.progress import Result


def test_what_a_round_makes_depends_on_the_round_on_what_came_before_and_on_the_worker():
    first = law(np.zeros(2, np.float32), 1, 0.5)
    np.testing.assert_array_equal(first, np.full(2, 1.5, np.float32))
    np.testing.assert_array_equal(law(first, 2, 0.0), np.full(2, 2.75, np.float32))
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
    spoilt = SPOILT[fault](sent, trained)
    assert check_update(spoilt, sent) == words
    assert fault != "scale" or spoilt["w"].tolist() == [201, 201]


def test_a_trainer_notes_its_calls_and_behaves_as_the_run_says(tmp_path):
    for name in ("gates", "calls"):
        (tmp_path / name).mkdir()
    (tmp_path / "gates" / "2").touch()
    trainer, weights = NumpyTrainer("site-1", tmp_path), {"classifier.w": np.zeros((1, 1), np.float32)}
    settings = {"stage": str(tmp_path), "workers": {"site-1": {"step": 2.0, "examples": 7, "seconds": 0.0}}}
    *_, result = trainer.handle("train", {"settings": settings, "run": "a run", "round": 1}, weights)
    assert isinstance(result, Result)
    assert (result.metrics["num-examples"], result.weights["classifier.w"].tolist()) == (7, [[3.0]])
    held = trainer.handle("train", {"settings": settings, "run": "a run", "round": 2}, weights)
    assert not any(isinstance(next(held), Result) for _ in range(3))
    (tmp_path / "gates" / "2").unlink()
    assert any(isinstance(item, Result) for item in held)
    assert (tmp_path / "calls" / "site-1").read_text() == "a run 1\na run 2\n"
