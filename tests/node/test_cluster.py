import socket

import pytest

from fedlmd.node.cluster import Cluster, ClusterError, free_port


def test_a_taken_port_is_named_before_anything_is_started(tmp_path):
    (tmp_path / "run.toml").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cluster = Cluster(tmp_path, tmp_path / "run.toml", (port, free_port()))
        with pytest.raises(ClusterError, match=f"port {port} is taken"):
            cluster.start()
    assert not cluster.processes


@pytest.mark.timeout(60)
def test_a_node_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path):
    (tmp_path / "run.toml").write_text("labelz = 3")
    cluster = Cluster(tmp_path, tmp_path / "run.toml", (free_port(),), deaths=1)
    try:
        with pytest.raises(ClusterError, match=r"server did not start; its log ends with: .*labelz"):
            cluster.start()
    finally:
        cluster.stop()


def test_nodes_are_placed_and_share_the_cores(tmp_path):
    cluster = Cluster(tmp_path, tmp_path / "run.toml", (9000, 8800, 8000))
    assert [(node.name, node.url, node.worker) for node in cluster.nodes] == [
        ("server", "http://127.0.0.1:9000", None),
        ("client1", "http://127.0.0.1:8800", 0),
        ("client2", "http://127.0.0.1:8000", 1),
    ]
    assert len({node.flower_port for node in cluster.nodes}) == 3
    command = cluster.command(cluster.workers[1])
    assert command[command.index("--worker") + 1] == "1"
    assert command[command.index("--superlink") + 1] == f"127.0.0.1:{cluster.server.flower_port}"
    assert cluster.environment["OMP_WAIT_POLICY"] == "PASSIVE"
