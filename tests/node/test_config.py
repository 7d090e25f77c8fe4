from pathlib import Path

from fedlmd.node.config import NodeConfig


def test_the_data_root_is_in_the_home_unless_another_is_named(tmp_path):
    assert NodeConfig("w", "worker", tmp_path).data == tmp_path / "data"
    assert NodeConfig("w", "worker", tmp_path, data=Path("/srv/images")).data == Path("/srv/images")
