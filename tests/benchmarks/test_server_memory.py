import numpy as np
import pytest

from benchmarks.server_memory import FLOWER, EagerGrid, measure_round, memory_of
from fedlmd.release import Weights

START: Weights = {"w": np.linspace(-1, 1, 1000, dtype=np.float32)}
UPDATE: Weights = {"w": START["w"] + np.float32(0.5)}


@pytest.mark.parametrize("strategy", ["fedavg", "median", FLOWER])
def test_every_worker_is_asked_through_flowers_own_grid(strategy, tmp_path):
    grid = EagerGrid(11, UPDATE)
    (found,) = measure_round(strategy, grid, START, tmp_path).values()
    np.testing.assert_allclose(found, UPDATE["w"], atol=1e-6)
    assert grid.link.unanswered == {}, "every message was answered"
    assert len(grid.link.objects) == len(EagerGrid(1, UPDATE).link.objects), "every reply was fetched whole"


def test_more_workers_take_no_more_memory_and_with_flowers_own_an_update_more_for_each():
    size, update = 100_000, 400_000 / 2**20
    ours, flowers = (
        [memory_of(name, count, trace=True, size=size)["allocated_mib"] / update for count in (16, 56)]
        for name in ("fedavg", FLOWER)
    )
    assert abs(ours[1] - ours[0]) < 8
    assert flowers[1] - flowers[0] == pytest.approx(40, rel=0.1)
