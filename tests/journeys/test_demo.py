"""The demo from end to end, with little training."""

import json
import subprocess
import sys

import pytest

from fedlmd.cli.demo.data import SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("more", [[], ["--pretrained"]])
def test_the_demo_runs_and_writes_its_figures(tmp_path, more):
    quick = SETTINGS.read_text()
    shorter = {
        "[classifier]\nsteps = 1200": "[models]\nviews = 1\n[classifier]\nsteps = 240",
        "[denoiser]\nsteps = 600": "[denoiser]\nsteps = 60",
        "images = 400": "images = 100",
        "rounds = 6": "rounds = 3",
    }
    for usual, short in shorter.items():
        assert usual in quick
        quick = quick.replace(usual, short)
    (tmp_path / "quick.toml").write_text(quick)
    command = [sys.executable, "-m", "fedlmd.cli", "demo", "--settings", "quick.toml", "--json", "figures.json", *more]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert figures["accuracy"] > 0.6
    assert 0 <= figures["false_alarm_rate"] < 0.2
    # So little training makes no detector; the shipped one is one.
    assert 0 <= figures["auroc_lmd"] <= 1
    if more:
        assert figures["auroc_lmd"] > 0.7
    assert (tmp_path / "demo-output" / "demo.png").stat().st_size > 10_000
    for node in ("server", "client1", "client2"):
        assert f"{node} answers at" in done.stderr
        assert f"{node} was shown" in done.stderr
