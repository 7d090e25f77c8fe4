import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fedlmd.federation.flower.processes import SupervisedProcess, flower_environment, program, side_by_side

# Starts another process in its group and prints both ids.
GROUP = "import os, subprocess, time; p = subprocess.Popen(['sleep', '60']); print(os.getpid(), p.pid, flush=True)\n"
GROUP += "time.sleep(60)"


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group(tmp_path, code=GROUP):
    return SupervisedProcess([sys.executable, "-c", code], dict(os.environ), tmp_path / "process.log", tmp_path)


def ids(process):
    return [int(word) for word in process.log.read_text().split()]


def test_a_process_ends_with_all_that_it_started(tmp_path):
    process = group(tmp_path)
    process.start()
    wait_for(lambda: process.log.exists() and len(ids(process)) == 2)
    assert all(map(lives, ids(process)))
    process.stop()
    assert not any(map(lives, ids(process)))
    assert process.pid is None


def test_a_process_that_dies_is_started_again_without_its_old_group(tmp_path):
    process = group(tmp_path)
    process.start()
    wait_for(lambda: process.log.exists() and len(ids(process)) == 2)
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: len(ids(process)) == 4)
    assert [lives(pid) for pid in ids(process)] == [False, False, True, True]
    assert process.starts == 2
    process.stop()


def test_a_process_that_hangs_is_ended_and_started_again(tmp_path):
    process, hangs = group(tmp_path), threading.Event()
    # Only the first of the two hangs, however slowly the second starts.
    process.answers, process.patience = lambda: not hangs.is_set() or process.starts > 1, 0.4
    process.start()
    wait_for(lambda: process.log.exists() and len(ids(process)) == 2)
    os.killpg(process.pid, signal.SIGSTOP)
    hangs.set()
    wait_for(lambda: len(ids(process)) == 4)
    assert [lives(pid) for pid in ids(process)] == [False, False, True, True]
    time.sleep(1)
    assert process.starts == 2
    process.stop()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    process = group(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GROUP)
    process.start()
    wait_for(lambda: process.log.exists() and len(ids(process)) == 2)
    process.stop(grace=0.2)
    wait_for(lambda: not any(map(lives, ids(process))))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends the processes of a killed parent")
def test_a_process_ends_when_its_parent_is_killed(tmp_path):
    code = "import os, sys, time; from pathlib import Path\n"
    code += "from fedlmd.federation.flower.processes import SupervisedProcess\n"
    code += "home = Path(sys.argv[1])\n"
    code += "process = SupervisedProcess(['/bin/sleep', '60'], dict(os.environ), home / 'process.log', home)\n"
    code += "process.start(); time.sleep(0.5); print(process.pid, flush=True); time.sleep(60)"
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


def test_no_proxy_reaches_flowers_processes(tmp_path, monkeypatch):
    names = [f"{protocol}_proxy" for protocol in ("all", "http", "https", "ftp", "socks")]
    for name in (*names, *(name.upper() for name in names), "All_Proxy"):
        monkeypatch.setenv(name, "socks5://127.0.0.1:1")
    left = {name: value for name, value in flower_environment(tmp_path, "::1").items() if "proxy" in name.lower()}
    assert left.keys() == {"no_proxy", "NO_PROXY"}


def test_processes_are_ended_side_by_side(tmp_path):
    ignoring = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + GROUP
    processes = []
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        processes.append(group(tmp_path / str(number), ignoring))
        processes[-1].start()
    for process in processes:
        wait_for(lambda process=process: process.log.exists() and len(ids(process)) == 2)
    began = time.monotonic()
    side_by_side(*[lambda process=process: process.stop(grace=1.0) for process in processes])
    assert 0.9 < time.monotonic() - began < 2.0
    wait_for(lambda: not any(lives(pid) for process in processes for pid in ids(process)))
