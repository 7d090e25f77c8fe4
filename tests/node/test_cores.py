import os

import pytest

from fedlmd.node.cores import available_cores


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("1600000 100000", 8),
        ("0 0", 8),
        ("nonsense", 8),
        ("", 8),
    ],
)
def test_a_quota_of_version_2_limits_the_cores_rounded_up(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    assert available_cores(tmp_path, allowed=8) == cores


@pytest.mark.parametrize(("quota", "cores"), [(-1, 8), (300000, 3), (250001, 3), (5000, 1)])
def test_a_quota_of_version_1_limits_the_cores_rounded_up(tmp_path, quota, cores):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path, allowed=8) == cores


def test_without_a_quota_the_cores_are_those_that_the_process_may_be_scheduled_on(tmp_path):
    assert available_cores(tmp_path, allowed=3) == 3
    if hasattr(os, "sched_getaffinity"):
        assert available_cores(tmp_path) == len(os.sched_getaffinity(0))
