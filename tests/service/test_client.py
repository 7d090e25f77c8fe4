import http.server
import threading

import pytest

from fedlmd.service.client import NodeClient, NodeError


class Replies(http.server.BaseHTTPRequestHandler):
    """Responds to each path with a fixed status and body."""

    bodies = {  # noqa: RUF012
        "/health": (200, b'{"status": "ok"}'),
        "/v1/drift": (200, b'{"state": "steady"}'),
        "/v1/runs/a/events": (
            200,
            b'id: 1\ndata: {"event": "started"}\n\n: still here\n\ndata: {"event": "finished"}\n\n',
        ),
        "/v1/runs/b/events": (404, b'{"error": "there is no run \'b\'"}'),
        "/v1/runs/c": (500, b"<html>"),
    }

    def do_GET(self):
        status, body = self.bodies[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture
def node():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Replies) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield NodeClient(f"http://127.0.0.1:{server.server_port}", timeout=5)
        server.shutdown()


def test_a_response_is_the_json_that_the_node_sent(node):
    assert node.health() == {"status": "ok"}


def test_the_drift_watch_is_read_and_reset(node):
    assert node.drift() == node.reset_drift() == {"state": "steady"}


def test_events_are_the_data_lines_of_the_stream(node):
    assert list(node.events("a")) == [{"event": "started"}, {"event": "finished"}]


def test_a_refusal_has_the_nodes_own_message(node):
    with pytest.raises(NodeError, match=r"^there is no run 'b'$"):
        list(node.events("b"))


def test_a_run_that_fails_is_an_error_with_its_reason_after_its_events():
    class Failing(Replies):
        bodies = {  # noqa: RUF012
            "/v1/runs": (202, b'{"run": "d"}'),
            "/v1/runs/d/events": (
                200,
                b'data: {"event": "started"}\n\ndata: {"event": "failed", "reason": "alone"}\n\n',
            ),
        }

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        events = NodeClient(f"http://127.0.0.1:{server.server_port}", timeout=5).federate({})
        assert next(events) == {"event": "started"}
        with pytest.raises(NodeError, match=r"^the run failed: alone$"):
            next(events)
        server.shutdown()


def test_a_run_that_is_resumed_fails_only_by_its_last_event():
    class Resumed(Replies):
        bodies = {  # noqa: RUF012
            "/v1/runs": (202, b'{"run": "d"}'),
            "/v1/runs/d/events": (
                200,
                b"".join(b'data: {"event": "%s"}\n\n' % kind for kind in (b"failed", b"resumed", b"finished")),
            ),
        }

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Resumed) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        events = list(NodeClient(f"http://127.0.0.1:{server.server_port}", timeout=5).federate({"resume": "d"}))
        assert [event["event"] for event in events] == ["failed", "resumed", "finished"]
        server.shutdown()


def test_an_error_without_a_message_is_named_by_its_status(node):
    with pytest.raises(NodeError, match="answered 500"):
        node.stop_run("c")


def test_a_node_that_is_not_there_is_named():
    with pytest.raises(NodeError, match=r"no node answers at http://127\.0\.0\.1:1 .*fedlmd serve"):
        NodeClient("http://127.0.0.1:1", timeout=2).health()


def test_nodes_are_reached_without_the_proxies_that_the_environment_names(node, monkeypatch):
    for name in ("ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert node.health() == {"status": "ok"}
