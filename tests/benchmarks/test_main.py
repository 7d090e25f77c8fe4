"""The command line of the benchmarks."""

import subprocess
import sys

from typer.testing import CliRunner

from benchmarks.__main__ import app

NAMES = ("detection", "verdict", "ablation", "merge", "faults", "scale", "data", "infer", "demo", "accuracy", "tables")


def test_help_names_every_benchmark():
    printed = CliRunner().invoke(app, ["--help"]).stdout
    for name in NAMES:
        assert name in printed


def test_a_wrong_name_is_one_line_on_stderr_and_status_1():
    command = [sys.executable, "-m", "benchmarks", "faults", "--fault", "rain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is no fault 'rain'; there are none, worker-killed")
    assert done.stderr.count("\n") == 1
