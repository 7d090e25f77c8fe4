import numpy as np
import pytest

from benchmarks.federations import WORKERS, dirichlet, iid, label_lists, shifted
from benchmarks.pool import Pool


def pool(count, first=0):
    """Images whose score is their number."""
    labels = np.arange(count) % 5
    return Pool(np.arange(first, first + count, dtype=np.float64), np.zeros((count, 5)), labels)


DRAWS = {"iid": iid, "label_lists": label_lists, "dirichlet": dirichlet}


@pytest.mark.parametrize("count", [5139, 1200])
@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_no_image_is_at_two_workers_nor_in_both_parts(draw, count):
    workers = draw(pool(count), np.random.default_rng(0))
    every = np.concatenate([part.scores for worker in workers for part in (worker.calibration, worker.test)])
    assert len(workers) == WORKERS
    assert len(np.unique(every)) == len(every)
    assert all(len(worker.calibration) and len(worker.test) for worker in workers)


def test_the_same_seed_draws_the_same_federation_and_another_one_another():
    same = [iid(pool(5139), np.random.default_rng(seed))[0].test.scores for seed in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] != same[2]).any()


def test_workers_that_are_alike_have_from_400_to_20_calibration_images_or_a_share_of_them():
    sizes = [(len(of.calibration), len(of.test)) for of in iid(pool(5139), np.random.default_rng(0))]
    assert sizes == [(count, 500) for count in (400, 200, 100, 50, 20)]
    small = [len(of.calibration) for of in iid(pool(327), np.random.default_rng(0))]
    assert small == [40, 20, 10, 5, 2]


def test_with_label_lists_each_worker_has_two_labels_and_its_traffic_the_same():
    for number, worker in enumerate(label_lists(pool(5139), np.random.default_rng(0))):
        own = {number, (number + 1) % 5}
        assert set(worker.calibration.labels) == set(worker.test.labels) == own
        assert (len(worker.calibration), len(worker.test)) == (200, 500)


def test_dirichlet_workers_are_skewed_and_have_at_least_70_images():
    workers = dirichlet(pool(5139), np.random.default_rng(0))
    shares = [np.bincount(worker.test.labels, minlength=5) / len(worker.test) for worker in workers]
    assert max(share.max() for share in shares) > 0.4
    assert min(len(worker.calibration) for worker in workers) >= 20
    with pytest.raises(ValueError, match="too few for 5 workers"):
        dirichlet(pool(300), np.random.default_rng(0))


def test_the_last_of_shifted_workers_sees_images_from_elsewhere_and_no_other_does():
    workers = shifted(pool(3000), pool(1187, first=10_000), np.random.default_rng(0))
    assert [bool((worker.test.scores >= 10_000).all()) for worker in workers] == [False] * 4 + [True]
    assert not any((worker.calibration.scores >= 10_000).any() for worker in workers[:4])
    assert {(len(worker.calibration), len(worker.test)) for worker in workers} == {(200, 500)}
