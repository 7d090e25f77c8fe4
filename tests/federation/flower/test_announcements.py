"""The requests on workers, called as plain ASGI: no server between test and code."""

import asyncio
import json
import time
from importlib.metadata import version

import pytest

from fedlmd.federation.announcement import LARGEST, PATH, Announcement
from fedlmd.federation.flower.announcements import WorkerRequests, token_of
from fedlmd.federation.worker_list import WorkerList

SECRET = b"0123456789abcdef0123456789abcdef"


async def flower(scope, receive, send):
    """In place of Flower's application: it says what it got."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps([scope["path"], scope["type"]]).encode()})


@pytest.fixture
def app():
    return WorkerRequests(flower, WorkerList(), token_of(SECRET))


def call(app, method, path=PATH, parts=(b"",), headers=()):
    """Status and body of a response to a request whose body comes in parts."""
    sent, arriving = [], list(parts)

    async def receive():
        if not arriving:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": arriving.pop(0), "more_body": bool(arriving)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent)), len(arriving)


def announcement(**fields):
    plain = {"instance": "1", "version": version("fedlmd"), "flower": version("flwr"), "clock": time.time()}
    return Announcement(**{"name": "a", **plain, **fields})


def listed(app, token=None):
    token = token_of(SECRET) if token is None else token
    return call(app, "GET", headers=[(b"authorization", f"Bearer {token}".encode())])[:2]


def test_a_worker_announces_itself_in_parts_and_the_servers_node_reads_of_it(app):
    data = announcement(labels={"cat": 3}).to_json()
    assert call(app, "POST", parts=(data[:7], b"", data[7:]))[:2] == (200, {"accepted": True})
    status, body = listed(app)
    assert (status, [worker["name"] for worker in body["workers"]]) == (200, ["a"])
    assert body["workers"][0]["labels"] == {"cat": 3}
    assert "instance" not in body["workers"][0]


def test_a_refused_worker_gets_the_reason(app):
    status, body, _ = call(app, "POST", parts=(announcement(version="0").to_json(),))
    assert (status, body["accepted"]) == (200, False)
    assert "it runs fedlmd 0 and the server" in body["reason"]


@pytest.mark.parametrize("token", ["", "x", SECRET.hex(), "é"])
def test_the_list_is_for_who_knows_the_secret(app, token):
    call(app, "POST", parts=(announcement().to_json(),))
    status, body = listed(app, token)
    assert (status, list(body)) == (401, ["error"])
    assert call(app, "GET")[0] == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[" * 100_000,
        b'{"name": {"name": {}}}',
        b"\x00\xff",
        b'"text"',
        b"[1, 2]",
        b"1e999",
        b"NaN",
    ],
)
def test_a_wrong_body_is_refused_in_one_sentence(app, body):
    status, reply, _ = call(app, "POST", parts=(body,))
    assert (status, list(reply)) == (400, ["error"])
    assert "\n" not in reply["error"]
    assert listed(app)[1] == {"workers": []}


def test_of_a_body_that_is_too_large_no_more_is_read_than_to_know_it(app):
    status, reply, left = call(app, "POST", parts=[b" " * 100_000] * 50)
    assert (status, reply) == (413, {"error": f"an announcement has at most {LARGEST:,} bytes"})
    assert left == 47


def test_a_worker_that_disconnects_in_the_middle_is_no_error(app):
    assert call(app, "POST", parts=())[0] == 400


def test_other_methods_are_refused_and_other_paths_are_flowers(app):
    assert call(app, "DELETE")[0] == 405
    for path in ("/v1/fleet/pull-messages", PATH + "/", PATH + "/a", "/"):
        assert call(app, "POST", path)[:2] == (299, [path, "http"])
    seen = []

    async def send(message):
        seen.append(message)

    asyncio.run(app({"type": "lifespan", "path": PATH}, None, send))
    assert seen[0]["status"] == 299
