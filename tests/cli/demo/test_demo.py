import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from fedlmd.calibration import PromiseCheck
from fedlmd.cli import app
from fedlmd.cli.demo.data import SETTINGS, DemoError, digits
from fedlmd.cli.demo.demo import draw, figures_of, ports_of
from fedlmd.data import load
from fedlmd.detection import separation
from fedlmd.inference import Predictor, Report
from fedlmd.node.cluster import free_port
from fedlmd.release import PRETRAINED_FOLDER, load_release
from fedlmd.settings import read
from fedlmd.training import Evaluation
from tests.shapes import write_shapes

QUICK = """
[data]
held_back = 0.3
[models]
classifier = [8, 16]
denoiser = [8, 16]
views = 1
[classifier]
steps = 60
batch_size = 16
[denoiser]
steps = 10
batch_size = 16
[detector.lmd]
reconstructions = 2
inpainting = { steps = 2 }
[federation]
rounds = 2
"""


def test_the_demos_workers_hold_different_lists_of_the_digits_learnt():
    settings = read(SETTINGS)
    lists = settings.data.partition.lists
    assert lists == (("0", "1", "2", "3"), ("0", "1", "2", "4"))
    assert {label for listed in lists for label in listed} == set(settings.labels)


def test_the_picture_shows_one_known_and_two_unknown_digits(tmp_path):
    predictor = Predictor(load_release(PRETRAINED_FOLDER))
    known, unknown = (load("mnist", "eval", labels=labels) for labels in (["0", "1", "2", "3", "4"], ["7", "9"]))
    file = draw(predictor, known, unknown, tmp_path / "demo.png", digits(SETTINGS, 2))
    with Image.open(file) as picture:
        assert picture.width > 800
        assert picture.height > picture.width / 2
    one = draw(predictor, known, unknown.take([0]), tmp_path / "one.png", digits(SETTINGS, 2))
    with Image.open(file) as three, Image.open(one) as two:
        assert two.height < three.height


def test_the_figures_are_those_of_the_report():
    apart = separation(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 2.0]))
    names = ("verdict", "lmd", "one-step", "max-logit")
    promise = PromiseCheck(images=2, false_alarms=0, expected=0.05, low=0.0, high=0.5, p=1.0, kept=True)
    report = Report(Evaluation(0.99, 0.1, 10), 2, 2, 0.05, 0.04, 0.8, dict.fromkeys(names, apart), promise)
    figures = figures_of(report, "abc", 10.0, 20.0, 100.4)
    assert figures["auroc"] == figures["auroc_lmd"] == 0.75
    assert (figures["accuracy"], figures["false_alarm_rate"], figures["alpha"]) == (0.99, 0.04, 0.05)
    assert (figures["seconds"], figures["peak_rss_mib"]) == (20.0, 100)


def test_ports_are_the_servers_and_then_one_for_each_worker():
    assert ports_of("9000, 8800,8000") == (9000, 8800, 8000)
    assert ports_of("1,2,3,65535") == (1, 2, 3, 65535)


@pytest.mark.parametrize("text", ["", "9000", "9000,8800", "9000,8800,8800", "9000,8800,0", "9000,8800,x", "1,2,65536"])
def test_other_ports_are_refused_with_an_example(text):
    with pytest.raises(DemoError, match="such as --ports 9000,8800,8000"):
        ports_of(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "0,1"], "--labels and --unknown choose among the labels of --data; add --data mnist"),
        (["--data", "mnist", "--pretrained"], "--pretrained takes the shipped detector, which knows digits"),
        (["--ports", "1,2,3,4"], "divide the images among 2 workers, but there are 4 ports"),
        (["--data", "nowhere"], "there is no data at"),
        (["--data", "shapes", "--labels", "circle,dog"], "no label 'dog'; there are circle, cross, square, triangle"),
        (["--data", "shapes"], "a calibration.alpha of 0.05 needs 19"),
        (["--settings", "three.toml", "--data", "shapes"], "among 3 workers, but there are 3 ports"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_before_anything_starts(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_shapes(tmp_path / "shapes", 20)
    (tmp_path / "three.toml").write_text('[data.partition]\nkind = "iid"\nworkers = 3\n')
    result = CliRunner().invoke(app, ["demo", *options])
    assert result.exit_code == 1
    assert message in " ".join(str(result.exception).split())
    assert not (tmp_path / "demo-output" / "nodes").exists()


def test_a_port_that_is_taken_is_named_before_an_earlier_demo_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo-output" / "nodes").mkdir(parents=True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["demo", "--ports", f"{free_port()},{port},{free_port()}"])
    assert f"port {port} is taken; stop what listens there, or choose others with --ports" in str(result.exception)
    assert (tmp_path / "demo-output" / "nodes").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_on_a_folder_of_images(tmp_path):
    write_shapes(tmp_path / "shapes", 40)
    (tmp_path / "quick.toml").write_text(QUICK)
    ports = [str(free_port()) for _ in range(3)]
    command = [sys.executable, "-m", "fedlmd.cli", "demo", "--data", "shapes", "--settings", "quick.toml"]
    done = subprocess.run(
        [*command, "--ports", ",".join(ports), "--json", "-"], cwd=tmp_path, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert (figures["labels"], figures["unknown_labels"]) == (["circle", "cross", "square"], ["triangle"])
    assert (figures["known"], figures["unknown"]) == (24, 8)
    assert 0 <= figures["auroc"] <= 1
    settings = read(tmp_path / "demo-output" / "demo.toml")
    assert (settings.image_size, settings.channels, settings.federation.rounds) == (24, 3, 2)
    assert settings.data.partition.lists == (("circle", "cross"), ("circle", "square"))
    assert "release on test images that no worker has seen" in done.stderr
    for node, port in zip(("server", "client1", "client2"), ports, strict=True):
        assert f"{node} answers at http://127.0.0.1:{port}" in done.stderr
        assert f"{node} was shown “triangle” (unknown)" in done.stderr
    with Image.open(tmp_path / "demo-output" / "demo.png") as picture:
        assert np.asarray(picture).ndim == 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("awaited", ["starting one server", "client1 answers", "federated run"])
def test_ctrl_c_ends_all_processes(awaited, tmp_path):
    write_shapes(tmp_path / "shapes", 40)
    (tmp_path / "quick.toml").write_text(QUICK)
    command = [sys.executable, "-m", "fedlmd.cli", "demo", "--data", "shapes", "--settings", "quick.toml"]
    ports = ",".join(str(free_port()) for _ in range(3))
    with (tmp_path / "log").open("w") as log:
        demo = psutil.Popen([*command, "--ports", ports], cwd=tmp_path, stderr=log, stdout=log)
    deadline = time.monotonic() + 120
    while awaited not in (tmp_path / "log").read_text() or not demo.children():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    started = demo.children(recursive=True)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
