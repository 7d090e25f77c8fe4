import os
import signal
import subprocess
import sys
import time

import pytest

from fedlmd.federation.processes import Child, flower_environment, program

# Starts a grandchild in its group and tells both ids.
FAMILY = "import os, subprocess, time; p = subprocess.Popen(['sleep', '60']); print(os.getpid(), p.pid, flush=True)\n"
FAMILY += "time.sleep(60)"


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def family(tmp_path, code=FAMILY):
    return Child([sys.executable, "-c", code], dict(os.environ), tmp_path / "child.log", tmp_path)


def ids(child):
    return [int(word) for word in child.log.read_text().split()]


def test_a_child_ends_with_all_that_it_started(tmp_path):
    child = family(tmp_path)
    child.start()
    wait_for(lambda: child.log.exists() and len(ids(child)) == 2)
    assert all(map(lives, ids(child)))
    child.stop()
    assert not any(map(lives, ids(child)))
    assert child.pid is None


def test_a_child_that_dies_is_started_again_without_its_old_family(tmp_path):
    child = family(tmp_path)
    child.start()
    wait_for(lambda: child.log.exists() and len(ids(child)) == 2)
    os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: len(ids(child)) == 4)
    assert [lives(pid) for pid in ids(child)] == [False, False, True, True]
    assert child.starts == 2
    child.stop()


def test_a_child_that_stands_still_is_ended_and_started_again(tmp_path):
    child, asked = family(tmp_path), []

    def answers():
        # The first of the two answers once and then never again.
        asked.append(len(ids(child)))
        return len(asked) == 1 or asked[-1] > 2

    child.answers, child.patience = answers, 0.4
    child.start()
    wait_for(lambda: child.log.exists() and len(ids(child)) == 2)
    os.killpg(child.pid, signal.SIGSTOP)
    wait_for(lambda: len(ids(child)) == 4)
    assert [lives(pid) for pid in ids(child)] == [False, False, True, True]
    time.sleep(1)
    assert child.starts == 2
    child.stop()


def test_a_child_that_will_not_go_is_ended_by_force(tmp_path):
    child = family(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAMILY)
    child.start()
    wait_for(lambda: child.log.exists() and len(ids(child)) == 2)
    child.stop(grace=0.2)
    wait_for(lambda: not any(map(lives, ids(child))))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends children of a killed parent")
def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    code = "import os, sys, time; from pathlib import Path; from fedlmd.federation.processes import Child\n"
    code += "home = Path(sys.argv[1])\n"
    code += "child = Child(['/bin/sleep', '60'], dict(os.environ), home / 'child.log', home); child.start()\n"
    code += "time.sleep(0.5); print(child.pid, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
    wait_for(lambda: not lives(pid))


def test_programs_are_those_of_this_environment(tmp_path):
    assert os.access(program("flower-superlink"), os.X_OK)
    environment = flower_environment(tmp_path, "10.0.0.1")
    assert environment["PATH"].split(os.pathsep)[0] == os.path.dirname(sys.executable)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert "10.0.0.1" in environment["no_proxy"]
