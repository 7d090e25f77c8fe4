import http.server
import json
import threading

import pytest

from fedlmd.cli.demo.steps import Note, follow, progress_of
from fedlmd.progress import drain
from fedlmd.service.client import NodeClient, NodeError

ROUND = {"event": "round", "round": 1, "rounds": 2, "seconds": 3.0, "workers": [], "metrics": {}}
FINISHED = {
    "event": "finished",
    "release": "abc",
    "metrics": {"workers": {"b": {"accuracy": 0.98}, "a": {"accuracy": 0.99}}},
}


@pytest.fixture
def server():
    """Streams a run's events as the REST service does."""

    class Events(http.server.BaseHTTPRequestHandler):
        events: tuple = ()

        def do_GET(self):
            body = "".join(f"data: {json.dumps(event)}\n\n" for event in self.events).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Events) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.05,), daemon=True).start()
        yield Events, NodeClient(f"http://127.0.0.1:{serving.server_port}")
        serving.shutdown()


def followed(server, *events):
    """The steps that a run's events make, and the final event."""
    handler, client = server
    handler.events, steps = events, []
    final = drain(follow(client, "r", client), steps.append)
    return steps, final


def test_a_run_is_followed_as_steps_of_the_demo_to_its_final_event(server):
    calibrating = {"event": "calibrating", "step": "moments", "workers": ["a", "b"]}
    steps, final = followed(server, {"event": "started"}, ROUND, calibrating, FINISHED)
    assert final == FINISHED
    assert steps == [
        ROUND,
        Note("calibrating (moments): numbers from a, b"),
        Note("accuracy of the release on each worker's own test images: a 0.9900, b 0.9800"),
    ]


def test_a_failed_run_ends_the_demo_with_its_reason(server):
    with pytest.raises(NodeError, match="the run failed: no worker came"):
        followed(server, ROUND, {"event": "failed", "reason": "no worker came"})


def test_a_worker_that_could_not_install_the_release_is_named(server):
    refused = [{"name": "a", "reason": "disk full"}]
    (note, *_), _ = followed(server, {"event": "installed", "refused": refused}, FINISHED)
    assert "disk full" in note.text


def test_an_update_that_was_refused_and_a_server_that_goes_away_are_named(server):
    refused = {"event": "refused", "worker": "a", "reason": "it holds a NaN"}
    (note, *_), _ = followed(server, refused, FINISHED)
    assert "it holds a NaN" in note.text
    gone = NodeClient("http://127.0.0.1:1", timeout=2)
    with pytest.raises(NodeError, match="went away"):
        drain(follow(gone, "r", gone))
    assert list(progress_of(gone)) == []
