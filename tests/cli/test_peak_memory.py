import subprocess
import sys
import threading

import psutil
import pytest

from fedlmd.cli.peak_memory import PeakMemory


@pytest.mark.timeout(20)
def test_peak_memory_covers_this_process_and_its_children():
    alone = psutil.Process().memory_info().rss / 2**20
    memory = PeakMemory()
    watch = threading.Thread(target=memory.watch)
    hungry = "import sys; held = bytearray(200 * 2**20); print(len(held), flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", hungry], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        watch.start()
        watch.join(1.2)
        child.stdin.close()
    memory.over.set()
    watch.join()
    assert memory.mib > alone + 190
