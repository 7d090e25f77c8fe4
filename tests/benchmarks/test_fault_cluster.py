import os
import subprocess
import sys

import pytest

from benchmarks.fault_cluster import group_members, wait_for


def test_a_value_that_is_waited_for_is_returned_and_one_that_does_not_come_is_a_timeout():
    values = iter([None, 0, "it"])
    assert wait_for(lambda: next(values), 10.0) == "it"
    with pytest.raises(TimeoutError, match="did not come within 0 seconds"):
        wait_for(lambda: None, 0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_that_are_left_in_a_group_are_found_and_dead_ones_are_not():
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        assert group_members({process.pid}) == [process.pid]
        os.killpg(process.pid, 9)
        wait_for(lambda: group_members({process.pid}) == [], 10.0)  # a zombie still, which nobody has waited for
