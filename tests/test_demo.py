import http.server
import json
import subprocess
import sys
import threading

import pytest
import torch
from PIL import Image

from fedlmd import artifacts
from fedlmd.answer import Answerer
from fedlmd.client import NodeClient
from fedlmd.cluster import NodePlace
from fedlmd.data import load
from fedlmd.demo import SETTINGS, DemoError, Note, PeakMemory, RoundDone, draw, family, figures_of, follow, resident
from fedlmd.detection import separation
from fedlmd.evaluation import Report
from fedlmd.node import PRETRAINED_FOLDER
from fedlmd.settings import read
from fedlmd.training import Evaluation

ROUND = {"event": "round", "round": 1, "rounds": 2, "seconds": 3.0, "workers": [], "metrics": {}}
FINISHED = {
    "event": "finished",
    "release": "abc",
    "metrics": {"workers": {"b": {"accuracy": 0.98}, "a": {"accuracy": 0.99}}},
}


@pytest.fixture
def server():
    """Tells a run's events as the REST service does."""

    class Events(http.server.BaseHTTPRequestHandler):
        told: tuple = ()

        def do_GET(self):
            body = "".join(f"data: {json.dumps(event)}\n\n" for event in self.told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Events) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.05,), daemon=True).start()
        yield Events, NodePlace("server", serving.server_port, 0)
        serving.shutdown()


def told(server, *events):
    handler, place = server
    handler.told = events
    return list(follow(NodeClient(place.url), "r", [place]))


def test_a_run_is_followed_in_the_demos_words(server):
    calibrating = {"event": "calibrating", "step": "moments", "workers": ["a", "b"]}
    finished = FINISHED
    items = told(server, {"event": "started"}, ROUND, calibrating, finished)
    assert items == [
        RoundDone(1, 2, 3.0, [], {}),
        Note("calibrating (moments): numbers from a, b"),
        Note("accuracy of the release on each worker's own test images: a 0.9900, b 0.9800"),
        finished,
    ]


def test_a_failed_run_ends_the_demo_with_its_reason(server):
    with pytest.raises(DemoError, match="the run failed: no worker came"):
        told(server, ROUND, {"event": "failed", "reason": "no worker came"})


def test_a_worker_that_could_not_install_the_release_is_named(server):
    refused = [{"name": "a", "reason": "disk full"}]
    note, *_ = told(server, {"event": "installed", "refused": refused}, FINISHED)
    assert "disk full" in note.text


def test_the_demos_workers_hold_different_lists_of_the_digits_learnt():
    settings = read(SETTINGS)
    lists = settings.data.partition.lists
    assert lists == (("0", "1", "2", "3"), ("0", "1", "2", "4"))
    assert {label for listed in lists for label in listed} == set(settings.labels)


def test_the_picture_shows_one_known_and_two_unknown_digits(tmp_path):
    answerer = Answerer(artifacts.load(PRETRAINED_FOLDER))
    known, unknown = (load("mnist", "eval", labels=labels) for labels in (["0", "1", "2", "3", "4"], ["7", "9"]))
    with Image.open(draw(answerer, known, unknown, tmp_path / "demo.png")) as picture:
        assert picture.width > 800
        assert picture.height > picture.width / 2


def test_the_figures_are_those_of_the_report():
    apart = separation(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 2.0]))
    names = ("verdict", "lmd", "one-step", "max-logit")
    report = Report(Evaluation(0.99, 0.1, 10), 2, 2, 0.05, 0.04, 0.8, dict.fromkeys(names, apart))
    figures = figures_of(report, "abc", 10.0, 20.0, 100.4)
    assert figures["auroc"] == figures["auroc_lmd"] == 0.75
    assert (figures["accuracy"], figures["false_alarm_rate"], figures["alpha"]) == (0.99, 0.04, 0.05)
    assert (figures["seconds"], figures["peak_rss_mib"]) == (20.0, 100)


@pytest.mark.timeout(20)
def test_peak_memory_covers_this_process_and_its_children():
    alone = sum(resident(process) for process in family()) / 2**20
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
