import numpy as np
import pytest
import torch

from fedlmd.bench.contenders import Contender
from fedlmd.bench.scores import Scores, batches_of, keep, kept, key_of, score
from fedlmd.data import load, some
from fedlmd.detection import MaxLogit

SCORES = Scores(torch.tensor([0.5, 1.5]), torch.tensor([2.5]), seconds=0.3, gflop=1.25, evaluations=3.0)


@pytest.fixture(scope="module")
def digits():
    test = load("mnist", "eval")
    return some(test.select(["0", "1"]), 60), some(test.select(["7"]), 30)


def test_scores_are_read_as_they_were_written(tmp_path):
    keep(tmp_path / "task" / "a.npz", SCORES, "key")
    read = kept(tmp_path / "task" / "a.npz", "key")
    assert torch.equal(read.known, SCORES.known)
    assert torch.equal(read.unknown, SCORES.unknown)
    assert (read.seconds, read.gflop, read.evaluations) == (0.3, 1.25, 3.0)
    assert read.milliseconds == pytest.approx(100.0)
    assert [path.name for path in (tmp_path / "task").iterdir()] == ["a.npz"]


def test_scores_of_something_else_are_made_anew(tmp_path):
    keep(tmp_path / "a.npz", SCORES, "key")
    assert kept(tmp_path / "a.npz", "another") is None
    assert kept(tmp_path / "b.npz", "key") is None
    assert kept(tmp_path / "a.npz") is not None


def test_a_damaged_file_is_made_anew(tmp_path):
    path = tmp_path / "a.npz"
    keep(path, SCORES, "key")
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not an archive", whole[:200] + bytes(100) + whole[300:]):
        path.write_bytes(damaged)
        assert kept(path, "key") is None
    np.savez(path, known=np.zeros(2), key="key")
    assert kept(path, "key") is None


def test_the_key_names_release_detector_and_images(answerer, digits):
    known, unknown = digits
    logits = MaxLogit(answerer.networks.classifier)
    plain = Contender(logits, 0)
    keys = [
        key_of("a", plain, known, unknown),
        key_of("b", plain, known, unknown),
        key_of("a", Contender(logits, 0, settings="other"), known, unknown),
        key_of("a", plain, some(known, 59), unknown),
        key_of("a", plain, unknown, known),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of("a", plain, known, unknown) == keys[0]


def test_every_image_is_scored_once_in_its_order(answerer, digits):
    known, unknown = digits
    contender = Contender(MaxLogit(answerer.networks.classifier), 0)
    *steps, found = score(contender, answerer.networks, known, unknown)
    assert steps == [1, 2, 3]
    assert len(steps) == sum(len(batches_of(contender, images)) for images in digits)
    assert torch.allclose(found.known, contender.detector.score(known.images()), atol=1e-5)
    assert torch.allclose(found.unknown, contender.detector.score(unknown.images()), atol=1e-5)
    assert found.evaluations == 0
    assert 0 < found.gflop < 0.1
    assert found.seconds > 0


def test_dear_detectors_get_few_images_at_once(answerer, digits):
    logits = MaxLogit(answerer.networks.classifier)
    cheap, dear = (max(len(part) for part in batches_of(Contender(logits, of), digits[0])) for of in (3, 10_000))
    assert (cheap, dear) == (50, 10)
