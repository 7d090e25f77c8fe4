import numpy as np
import pytest
import torch

from benchmarks.baselines.factory import MeasuredDetector
from benchmarks.scores import Scores, batch_count, batches_of, key_of, load_scores, save_scores, score, stored_scores
from fedlmd.data import load, some
from fedlmd.detection import MaxLogit
from fedlmd.progress import Progress, drain

SCORES = Scores(torch.tensor([0.5, 1.5]), torch.tensor([2.5]), seconds=0.3, gflop=1.25, evaluations=3.0)


@pytest.fixture(scope="module")
def digits():
    test = load("mnist", "eval")
    return some(test.select(["0", "1"]), 60), some(test.select(["7"]), 30)


def test_scores_are_read_as_they_were_written(tmp_path):
    save_scores(tmp_path / "task" / "a.npz", SCORES, "key")
    read = load_scores(tmp_path / "task" / "a.npz", "key")
    assert torch.equal(read.known, SCORES.known)
    assert torch.equal(read.unknown, SCORES.unknown)
    assert (read.seconds, read.gflop, read.evaluations) == (0.3, 1.25, 3.0)
    assert read.milliseconds == pytest.approx(100.0)
    assert [path.name for path in (tmp_path / "task").iterdir()] == ["a.npz"]


def test_scores_of_something_else_are_made_anew(tmp_path):
    save_scores(tmp_path / "a.npz", SCORES, "key")
    assert load_scores(tmp_path / "a.npz", "another") is None
    assert load_scores(tmp_path / "b.npz", "key") is None
    assert load_scores(tmp_path / "a.npz") is not None


def test_a_damaged_file_is_made_anew(tmp_path):
    path = tmp_path / "a.npz"
    save_scores(path, SCORES, "key")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive", whole[:200] + bytes(100) + whole[300:]):
        path.write_bytes(damaged)
        assert load_scores(path, "key") is None
    np.savez(path, known=np.zeros(2), key="key")
    assert load_scores(path, "key") is None


def test_the_key_names_release_detector_and_images(predictor, digits):
    known, unknown = digits
    logits = MaxLogit(predictor.networks.classifier)
    plain = MeasuredDetector(logits, 0)
    keys = [
        key_of("a", plain, known, unknown),
        key_of("b", plain, known, unknown),
        key_of("a", MeasuredDetector(logits, 0, settings="other"), known, unknown),
        key_of("a", plain, some(known, 59), unknown),
        key_of("a", plain, unknown, known),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of("a", plain, known, unknown) == keys[0]


def test_every_image_is_scored_once_in_its_order(predictor, digits):
    known, unknown = digits
    measured, steps = MeasuredDetector(MaxLogit(predictor.networks.classifier), 0), []
    scores = drain(score(measured, predictor.networks, digits, Progress("max-logit", 7, 99)), steps.append)
    assert steps == [Progress("max-logit", 7 + done, 99) for done in (1, 2, 3)]
    assert len(steps) == batch_count(measured, *digits)
    assert torch.allclose(scores.known, measured.detector.score(known.images()), atol=1e-5)
    assert torch.allclose(scores.unknown, measured.detector.score(unknown.images()), atol=1e-5)
    assert scores.evaluations == 0
    assert 0 < scores.gflop < 0.1
    assert scores.seconds > 0


def test_scores_are_made_once_and_read_afterwards(predictor, digits, tmp_path):
    measured, file = MeasuredDetector(MaxLogit(predictor.networks.classifier), 0), tmp_path / "a.npz"
    first, again = (
        drain(stored_scores(file, "key", measured, predictor.networks, digits, Progress("a", 0, 3))) for _ in range(2)
    )
    assert again.seconds == first.seconds
    assert torch.equal(again.known, first.known)


def test_expensive_detectors_get_few_images_at_once(predictor, digits):
    logits = MaxLogit(predictor.networks.classifier)
    cheap, expensive = (
        max(len(part) for part in batches_of(MeasuredDetector(logits, evaluations), digits[0]))
        for evaluations in (3, 10_000)
    )
    assert (cheap, expensive) == (50, 10)
