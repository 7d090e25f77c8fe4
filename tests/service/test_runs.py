import threading

import pytest

from fedlmd.service.schema import RunOrder
from tests.service.test_training import events_of


def test_a_run_is_started_followed_and_listed(server, runs):
    order = {"settings": {"federation": {"rounds": 3}}, "labels": [0, 1], "pretrained_detector": True}
    reply = server.post("/v1/runs", json=order)
    assert reply.status_code == 202
    assert reply.json() == {"run": "run-1", "state": "running", "follow": "/v1/runs/run-1/events"}
    assert runs.orders == [
        RunOrder(settings={"federation": {"rounds": 3}}, labels=["0", "1"], pretrained_detector=True)
    ]
    threading.Timer(0.2, runs.add, ["run-1", "round"], {"round": 1, "loss": float("nan")}).start()
    threading.Timer(0.4, runs.add, ["run-1", "finished"], {"release": "abc"}).start()
    events = events_of(server, "/v1/runs/run-1/events")
    assert [(number, event["event"]) for number, event in events] == [(1, "started"), (2, "round"), (3, "finished")]
    assert events[1][1]["loss"] is None
    assert server.get("/v1/runs/run-1").json()["state"] == "finished"
    assert [run["id"] for run in server.get("/v1/runs").json()] == ["run-1"]


@pytest.mark.parametrize(
    ("last", "numbers"), [("1", [2, 3]), ("2", [3]), ("3", []), ("x", [1, 2, 3]), ("²", [1, 2, 3])]
)
def test_a_stream_is_resumed_after_the_last_event_that_was_seen(server, runs, last, numbers):
    server.post("/v1/runs", json={})
    runs.add("run-1", "round")
    runs.add("run-1", "failed", reason="no worker came")
    events = events_of(server, "/v1/runs/run-1/events", **{"Last-Event-ID": last.encode()})
    assert [number for number, _ in events] == numbers


def test_a_run_is_stopped(server, runs):
    server.post("/v1/runs", json={})
    reply = server.delete("/v1/runs/run-1")
    assert (reply.status_code, reply.json()["state"]) == (202, "stopped")
    assert events_of(server, "/v1/runs/run-1/events")[-1][1]["event"] == "stopped"


def test_a_run_that_failed_is_resumed_and_its_events_go_on(server, runs):
    server.post("/v1/runs", json={})
    runs.add("run-1", "failed", reason="no worker came")
    reply = server.post("/v1/runs", json={"resume": "run-1"})
    assert (reply.status_code, reply.json()) == (
        202,
        {"run": "run-1", "state": "running", "follow": "/v1/runs/run-1/events"},
    )
    threading.Timer(0.2, runs.add, ["run-1", "finished"]).start()
    events = events_of(server, "/v1/runs/run-1/events")
    assert [event["event"] for _, event in events] == ["started", "failed", "resumed", "finished"]


def test_a_run_that_is_not_there_is_not_resumed(server, runs):
    reply = server.post("/v1/runs", json={"resume": "run-7"})
    assert (reply.status_code, reply.json()) == (404, {"error": "there is no run 'run-7'"})


def test_a_second_run_waits_for_the_first(server):
    server.post("/v1/runs", json={})
    reply = server.post("/v1/runs", json={})
    assert (reply.status_code, reply.json()) == (503, {"error": "another run is going on"})
    assert reply.headers["Retry-After"] == "30"


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"settings": {"federation": {"rounds": 0}}}, "rounds is 0; it is 1 or more"),
        ({"settings": {"colour": "red"}}, "colour"),
        ({"settings": []}, "settings: input should be a valid dictionary"),
        ({"labels": ["1", "1"]}, "label '1' is listed twice"),
        ({"labels": ["1"]}, "labels"),
        ({"rounds": 3}, "rounds: no such field"),
        (
            {"resume": "run-1", "settings": {}, "labels": ["0", "1"]},
            "a resumed run keeps the plan that it was started with; send resume without labels, settings",
        ),
    ],
)
def test_an_impossible_run_is_refused(server, runs, order, says):
    reply = server.post("/v1/runs", json=order)
    assert (reply.status_code, list(reply.json())) == (422, ["error"])
    assert says in reply.json()["error"]
    assert runs.orders == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/runs/x"), ("DELETE", "/v1/runs/x"), ("GET", "/v1/runs/x/events")]
)
def test_an_unknown_run_is_not_found(server, method, path):
    reply = server.request(method, path)
    assert reply.status_code == 404
    assert "no run 'x'" in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/runs"), ("GET", "/v1/runs"), ("GET", "/v1/runs/x"), ("GET", "/v1/runs/x/events")],
)
def test_a_worker_has_no_runs(predicting, method, path):
    reply = predicting.request(method, path, json={} if method == "POST" else None)
    assert reply.status_code == 404
    assert "runs are started at the server" in reply.json()["error"]
