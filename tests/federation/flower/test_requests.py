"""Announcing a worker to servers that are right, wrong, or none."""

import re
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fedlmd.federation.announcement import Announcement
from fedlmd.federation.flower.address import Address
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.requests import announce, list_workers

SENT = Announcement("a", "1", "0.1.0", "1.42.0", 1.0)


@contextmanager
def answering(status, body, headers=()):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def do_GET(self):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield Address("127.0.0.1", server.server_port)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "outcome", "words"),
    [
        (200, b'{"accepted": true}', "accepted", None),
        (200, b'{"accepted": false, "reason": "its clock\\nis wrong"}', "refused", "^its clock is wrong$"),
        (400, b'{"error": "the field"}', "refused", "^the field$"),
        (413, b'{"error": "too large"}', "refused", "^too large$"),
        (200, b'{"accepted": 1}', "unreachable", r"is no fedlmd server \(it answers 200\)"),
        (404, b'{"detail": "Not Found"}', "unreachable", r"is no fedlmd server \(it answers 404\)"),
        (404, b'{"error": "Not Found"}', "unreachable", "and not that of the REST service$"),
        (200, b"<html>It works!</html>", "unreachable", "it answers 200 without JSON"),
        (200, b"[" * 100_000, "unreachable", "it answers 200 without JSON"),
        (200, b"[]", "unreachable", "it answers 200 with other JSON"),
        (200, b'{"accepted": false, "reason": 7}', "unreachable", "it answers 200"),
        (302, b"", "unreachable", "it answers 302 without JSON"),
    ],
)
def test_a_response_is_taken_for_what_it_is(status, body, outcome, words):
    with answering(status, body, [("Location", "http://127.0.0.1:1/")]) as address:
        answer = announce(address, SENT, timeout=10.0)
    assert answer.outcome == outcome
    assert answer.reason is None if words is None else re.search(words, answer.reason), answer


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_where_nothing_listens_the_sentence_names_the_address_and_the_option(free_port):
    answer = announce(Address("127.0.0.1", free_port), SENT)
    assert answer.outcome == "unreachable"
    assert answer.reason == f"nothing listens at 127.0.0.1:{free_port}; start the server, or check --superlink"
    with pytest.raises(EngineError, match="nothing listens at"):
        list_workers(Address("127.0.0.1", free_port), "token")


def test_a_name_that_is_not_known_is_said():
    answer = announce(Address("no-such-host.invalid", 9092), SENT)
    assert answer.reason.startswith("the name 'no-such-host.invalid' of the server is not known here")


@pytest.mark.parametrize(("greeting", "words"), [(b"SSH-2.0-OpenSSH_9.9\r\n", "does not speak HTTP"), (b"", "HTTP")])
def test_what_speaks_no_http_is_no_server(greeting, words):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet():
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        answer = announce(Address(*listener.getsockname()[:2]), SENT, timeout=10.0)
        thread.join()
    assert answer.outcome == "unreachable"
    assert words in answer.reason


def test_who_does_not_respond_is_said_after_the_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        answer = announce(Address(*silent.getsockname()[:2]), SENT, timeout=0.2)
    assert "does not respond within 0.2 s" in answer.reason


def test_no_proxy_that_the_environment_names_is_used(monkeypatch, free_port):
    for name in ("ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    with answering(200, b'{"accepted": true}') as address:
        assert announce(address, SENT).outcome == "accepted"


def test_a_server_that_does_not_know_the_token_is_an_error():
    with answering(401, b'{"error": "no"}') as address, pytest.raises(EngineError, match="it answers 401"):
        list_workers(address, "token")
