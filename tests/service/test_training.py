import json
import math
import threading
import time
from dataclasses import replace

import httpx
import pytest

from fedlmd.progress import Progress, Result
from fedlmd.service.contract import UnknownJob
from fedlmd.service.jobs import KEPT, Jobs

PATH = "/train-worker-on-labels-list"


def events_of(client, path, **headers):
    """The events of a stream, read line by line to its end, as (id, data)."""
    events, number = [], None
    with client.stream("GET", path, headers=headers) as reply:
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                events.append((number, json.loads(line[6:])))
    return events


def slow(host, steps=100_000):
    """Make the host's next training last until it is cancelled."""
    host.settings = replace(host.settings, classifier=replace(host.settings.classifier, steps=steps))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_training_is_waited_for_and_makes_the_current_release(client, host, digit):
    before = host.current
    reply = client.post(PATH, json={"labels_list": ["1", 3]})
    body = reply.raise_for_status().json()
    assert set(body) == {
        "accuracy",
        "loss",
        "accuracy classification model",
        "loss classification model",
        "release",
        "seconds",
        "images",
    }
    assert body["accuracy"] == body["accuracy classification model"] > 60
    assert body["loss"] == body["loss classification model"] > 0
    assert body["images"] == 30
    assert body["release"] == host.current != before
    prediction = client.post("/infer", files={"image": digit}).json()
    assert set(prediction["probabilities"]) == {"1", "3"}


def test_a_directory_holds_both_parts_and_each_can_be_overridden(client, images, tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    for label in "01":
        for path in sorted((images / "eval" / label).iterdir())[:5]:
            (tmp_path / label / path.name).write_bytes(path.read_bytes())
    order = {"labels_list": ["0", "1"], "directory": str(images)}
    assert client.post(PATH, json=order).json()["images"] == 30
    assert client.post(PATH, json={**order, "directory_eval": str(tmp_path)}).json()["images"] == 10


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "labels_list: it is missing"),
        ({"labels_list": []}, "labels_list: list should have at least 2 items"),
        ({"labels_list": ["1"]}, "at least 2"),
        ({"labels_list": "01"}, "labels_list: input should be a valid list"),
        ({"labels_list": ["0", "1", "0"]}, "label '0' is listed twice"),
        ({"labels_list": [0, "0"]}, "label '0' is listed twice"),
        ({"labels_list": ["0", ""]}, "labels_list[1]"),
        ({"labels_list": ["0", 1.5]}, "labels_list[1]: input should be a valid string; it is 1.5"),
        ({"labels_list": ["0", True]}, "labels_list[1]"),
        ({"labels_list": ["0", None]}, "labels_list[1]"),
        ({"labels_list": ["0", "1"], "directory": ""}, "directory"),
        ({"labels_list": ["0", "1"], "seed": -1}, "seed"),
        ({"labels_list": ["0", "1"], "label": 1}, "label: no such field"),
        ({"labels_list": ["8", "9"]}, "8"),
        ({"labels_list": ["0", "1"], "directory": "/nowhere/at/all"}, "/nowhere/at/all"),
        ([], "the body must be a JSON object"),
        (None, "the body must be a JSON object"),
    ],
)
def test_a_bad_order_is_refused_with_a_sentence(client, host, body, says):
    reply = client.post(PATH, json=body)
    assert (reply.status_code, list(reply.json())) == (422, ["error"])
    assert says in reply.json()["error"]
    assert host.progress is None


@pytest.mark.parametrize(
    ("content", "kind", "says"),
    [
        (b'{"labels_list": ["0", ', "application/json", "not valid JSON"),
        (b'{"labels_list": ["0", "1"]}', "text/plain", "Content-Type: application/json"),
        (b"[" * 50_000, "application/json", "cannot be parsed"),
        (b"\xff\xfe\x00", "application/json", "body"),
    ],
)
def test_a_body_that_is_no_json_is_refused(client, content, kind, says):
    reply = client.post(PATH, content=content, headers={"Content-Type": kind})
    assert reply.status_code in {400, 422}
    assert says in reply.json()["error"]


def test_a_training_that_is_not_waited_for_is_followed_to_its_end(client):
    reply = client.post(PATH, json={"labels_list": [0, 1]}, params={"wait": "false"})
    assert reply.status_code == 202
    started = reply.json()
    assert started["state"] == "running"
    events = [event for _, event in events_of(client, started["follow"])]
    assert [e["event"] for e in events] == ["progress"] * (len(events) - 1) + ["finished"]
    last = {e["stage"]: (e["done"], e["total"]) for e in events[:-1]}
    assert last == {"classifier": (60, 60), "denoiser": (20, 20), "calibration": (3, 3)}
    job = client.get(f"/v1/jobs/{started['job']}").json()
    assert (job["state"], job["labels"], job["error"]) == ("finished", ["0", "1"], None)
    assert job["result"] == events[-1]["result"]
    assert job["result"]["accuracy classification model"] == job["result"]["accuracy"]
    assert job["started"] < job["finished"]
    assert [j["id"] for j in client.get("/v1/jobs").json()] == [job["id"]]


def test_a_training_that_fails_says_why(client):
    started = client.post(PATH, json={"labels_list": ["8", "9"]}, params={"wait": "false"}).json()
    [(_, event)] = events_of(client, started["follow"])
    job = client.get(f"/v1/jobs/{started['job']}").json()
    assert (event["event"], job["state"], job["result"]) == ("failed", "failed", None)
    assert event["error"] == job["error"]
    assert "8" in job["error"]


def test_while_it_trains_a_node_predicts_and_refuses_a_second_training(client, host, digit):
    slow(host)
    job = client.post(PATH, json={"labels_list": [0, 1]}, params={"wait": "false"}).json()["job"]
    wait_for(lambda: client.get(f"/v1/jobs/{job}").json()["progress"])
    start = time.monotonic()
    reply = client.post("/infer", files={"image": digit})
    assert reply.status_code == 200
    assert time.monotonic() - start < 5
    health = client.get("/health").json()
    assert (health["training"], health["jobs"]) == (True, 1)
    refused = client.post(PATH, json={"labels_list": [0, 1]})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "7")
    assert refused.json() == {"error": "this node trains already"}
    cancelled = client.delete(f"/v1/jobs/{job}").json()
    assert (cancelled["state"], cancelled["error"]) == ("cancelled", "the training was cancelled")
    assert host.progress is None
    assert [event["event"] for _, event in events_of(client, f"/v1/jobs/{job}/events")][-1] == "cancelled"
    assert client.delete(f"/v1/jobs/{job}").json() == cancelled


def test_a_training_goes_on_when_its_client_leaves(client, host):
    before = host.current
    with pytest.raises(httpx.ReadTimeout):
        client.post(PATH, json={"labels_list": [2, 3]}, timeout=0.1)
    wait_for(lambda: [job["state"] for job in client.get("/v1/jobs").json()] == ["finished"])
    assert host.current != before


def test_a_cancelled_training_is_reported_to_the_client_that_waits_for_it(client, host):
    slow(host)
    replies = []
    waiting = threading.Thread(target=lambda: replies.append(client.post(PATH, json={"labels_list": [0, 1]})))
    waiting.start()
    wait_for(lambda: client.get("/v1/jobs").json())
    client.delete(f"/v1/jobs/{client.get('/v1/jobs').json()[0]['id']}")
    waiting.join(10)
    assert (replies[0].status_code, replies[0].json()) == (409, {"error": "the training was cancelled"})


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/jobs/x"), ("GET", "/v1/jobs/x/events"), ("DELETE", "/v1/jobs/x")]
)
def test_an_unknown_job_is_not_found(client, method, path):
    reply = client.request(method, path)
    assert reply.status_code == 404
    assert "there is no job 'x'" in reply.json()["error"]


METRICS = {"accuracy": 0.75, "loss": 0.5, "release": "abc", "seconds": 1.0, "images": 4}


def work(*steps, error=None, **metrics):
    yield from steps
    if error is not None:
        raise error
    return Result({**METRICS, **metrics})


def finished(job):
    job.thread.join(5)
    return job.now


def test_only_the_latest_jobs_are_kept():
    jobs = Jobs()
    made = [jobs.add(["0", "1"], work(images=n)) for n in range(KEPT + 20)]
    for job in made:
        finished(job)
    jobs.add(["0", "1"], work())
    assert len(jobs.list()) == KEPT + 1
    assert jobs.get(made[-1].id).now.result.images == KEPT + 19
    with pytest.raises(UnknownJob, match="no job"):
        jobs.get(made[0].id)


def test_an_unexpected_failure_is_written_to_the_log_alone(caplog):
    job = Jobs().add(["0", "1"], work(Progress("x", 1, 2), error=RuntimeError("secret path /home/me")))
    now = finished(job)
    assert now.state == "failed"
    assert "secret" not in now.error
    assert "secret path" in caplog.text


def test_a_job_has_the_latest_progress_of_each_stage_and_the_result():
    steps = [Progress("x", 1, 2), Progress("x", 2, 2, {"loss": math.nan}), Progress("y", 1, 1)]
    job = Jobs().add(["0", "1"], work(*steps, loss=math.inf))
    now = finished(job)
    assert (now.state, now.result.accuracy, now.result.loss, now.error) == ("finished", 75.0, None, None)
    assert [(name, stage.done, stage.metrics) for name, stage in job.stages.items()] == [
        ("x", 2, {"loss": None}),
        ("y", 1, {}),
    ]
    assert now.progress == job.stages["y"]
