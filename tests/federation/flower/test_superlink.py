import logging
import subprocess
import sys

import pytest

from fedlmd.federation.announcement import PATH
from fedlmd.federation.flower.superlink import WithoutAnnouncements, in_front_of


def test_a_server_without_a_secret_does_not_start():
    with pytest.raises(SystemExit, match="needs --isolation process and --superexec-auth-secret-file"):
        in_front_of(None, None)


def test_announcements_are_left_out_of_the_log_and_nothing_else():
    def written(path):
        record = logging.LogRecord(
            "", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', ("a", "POST", path, "1.1", 200), None
        )
        return WithoutAnnouncements().filter(record)

    assert not written(PATH)
    assert written("/v1/fleet/pull-messages")


def test_the_program_takes_the_arguments_of_flowers(tmp_path):
    command = [sys.executable, "-m", "fedlmd.federation.flower.superlink", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--superexec-auth-secret-file" in done.stdout
