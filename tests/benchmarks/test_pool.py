import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.pool import Pool, key_of, load_pool, save_pool, score, stored_pool
from fedlmd.data import load
from fedlmd.progress import drain
from fedlmd.release import VERDICT


@pytest.fixture(scope="module")
def images():
    return load("mnist", "eval", labels=list("01234")).take(torch.arange(60))


def test_a_pool_holds_what_the_release_predicts(predictor, images):
    steps = []
    pool = drain(score(predictor, images, "known"), steps.append)
    assert [step.done for step in steps] == [50, 60]
    predictions = predictor.predict(images.images())
    np.testing.assert_allclose(pool.scores, [each.score for each in predictions], rtol=1e-4, atol=1e-4)
    logits = predictor.networks.classifier(images.images()).detach()
    np.testing.assert_allclose(pool.true_losses, F.cross_entropy(logits, images.labels, reduction="none"), atol=1e-5)
    assert pool.right.tolist() == [
        each.label == str(int(label)) for each, label in zip(predictions, images.labels, strict=True)
    ]
    assert len(pool) == 60
    assert pool.scores.dtype == np.float64
    assert set(predictions[0].scores) == {*predictor.settings.detectors.verdict, VERDICT}


def test_a_pool_is_stored_for_the_same_release_and_images_alone(predictor, images, tmp_path):
    pool = Pool(np.arange(3.0), np.ones((3, 5)), np.arange(3))
    key = key_of(predictor, images)
    save_pool(tmp_path / "deep" / "known.npz", pool, key)
    again = load_pool(tmp_path / "deep" / "known.npz", key)
    np.testing.assert_array_equal(again.scores, pool.scores)
    assert load_pool(tmp_path / "deep" / "known.npz", key_of(predictor, images.take(torch.arange(59)))) is None
    assert load_pool(tmp_path / "none.npz", key) is None
    (tmp_path / "deep" / "known.npz").write_bytes(b"PK damaged")
    assert load_pool(tmp_path / "deep" / "known.npz", key) is None


def test_a_pool_is_scored_once_and_read_afterwards(predictor, images, tmp_path):
    steps = []
    first = drain(stored_pool(tmp_path / "a.npz", predictor, images, "known"))
    again = drain(stored_pool(tmp_path / "a.npz", predictor, images, "known"), steps.append)
    assert not steps
    np.testing.assert_array_equal(again.losses, first.losses)
