"""How long the nodes of a cluster take to end."""

import time

import psutil
import pytest

from fedlmd.cli.demo.data import SETTINGS
from fedlmd.node.cluster import Cluster, free_port
from fedlmd.service.client import NodeClient


@pytest.mark.slow
def test_nodes_end_by_themselves_within_8_seconds_while_they_train(tmp_path):
    cluster = Cluster(tmp_path, SETTINGS, (free_port(), free_port(), free_port()))
    try:
        cluster.start()
        NodeClient(cluster.server.url).start_run({})
        deadline = time.monotonic() + 120
        while not all(NodeClient(worker.url).health()["training"] for worker in cluster.workers):
            assert time.monotonic() < deadline, "no training began"
            time.sleep(0.5)
        started = psutil.Process().children(recursive=True)
    finally:
        begin = time.monotonic()
        cluster.stop()
    # Cluster.stop would kill them after 10 seconds.
    seconds = time.monotonic() - begin
    print(f"ended in {seconds:.1f} s")
    assert seconds < 8
    gone, alive = psutil.wait_procs(started, timeout=1)
    assert not alive
    assert len(gone) > 8
