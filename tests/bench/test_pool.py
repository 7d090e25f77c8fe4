import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedlmd.answer import VERDICT
from fedlmd.bench.pool import Pool, keep, kept, key_of, score
from fedlmd.data import load


@pytest.fixture(scope="module")
def images():
    return load("mnist", "eval", labels=list("01234")).take(torch.arange(60))


def test_a_pool_holds_what_the_release_answers(answerer, images):
    *done, pool = score(answerer, images)
    assert done == [50, 60]
    answers = answerer.answer(images.images())
    np.testing.assert_allclose(pool.scores, [answer.score for answer in answers], rtol=1e-4, atol=1e-4)
    logits = answerer.networks.classifier(images.images()).detach()
    np.testing.assert_allclose(pool.true_losses, F.cross_entropy(logits, images.labels, reduction="none"), atol=1e-5)
    assert pool.right.tolist() == [
        answer.prediction == str(int(label)) for answer, label in zip(answers, images.labels, strict=True)
    ]
    assert len(pool) == 60
    assert pool.scores.dtype == np.float64
    assert set(answers[0].scores) == {*answerer.settings.detector.verdict, VERDICT}


def test_a_pool_is_kept_for_the_same_release_and_images_alone(answerer, images, tmp_path):
    pool = Pool(np.arange(3.0), np.ones((3, 5)), np.arange(3))
    key = key_of(answerer, images)
    keep(tmp_path / "deep" / "known.npz", pool, key)
    again = kept(tmp_path / "deep" / "known.npz", key)
    np.testing.assert_array_equal(again.scores, pool.scores)
    assert kept(tmp_path / "deep" / "known.npz", key_of(answerer, images.take(torch.arange(59)))) is None
    assert kept(tmp_path / "none.npz", key) is None
    (tmp_path / "deep" / "known.npz").write_bytes(b"PK damaged")
    assert kept(tmp_path / "deep" / "known.npz", key) is None
