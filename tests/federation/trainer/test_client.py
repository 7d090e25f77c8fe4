import socket
import time

import pytest

from fedlmd.federation.trainer.client import TrainerClient, TrainerUnreachable

KEY = b"a shared secret"


def test_no_trainer_is_named_as_such(tmp_path):
    with pytest.raises(TrainerUnreachable, match="no trainer answers"):
        TrainerClient(tmp_path / "nobody.sock", KEY).status()


def test_a_trainer_that_hangs_is_not_waited_for(tmp_path):
    with socket.socket(socket.AF_UNIX) as hanging:
        # The kernel accepts connections, as it does for a process that hangs; once too many wait, it does not.
        hanging.bind(str(tmp_path / "t.sock"))
        hanging.listen(1)
        client, began = TrainerClient(tmp_path / "t.sock", KEY), time.monotonic()
        for _ in range(4):
            with pytest.raises(TrainerUnreachable, match="no trainer answers at"):
                client.status(timeout=0.2)
        assert 0.4 < time.monotonic() - began < 4
        assert not TrainerClient(tmp_path / "nobody.sock", KEY).answers()


def test_the_environment_names_the_trainer():
    client = TrainerClient.from_environment({"FEDLMD_TRAINER_SOCKET": "/run/t.sock", "FEDLMD_TRAINER_KEY": "00ff"})
    assert TrainerClient.from_environment(client.environment()) == client
    assert client.authkey == b"\x00\xff"
    with pytest.raises(TrainerUnreachable, match="FEDLMD_TRAINER_SOCKET"):
        TrainerClient.from_environment({})
