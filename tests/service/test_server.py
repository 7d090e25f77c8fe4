import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from fedlmd.service.app import create_app
from fedlmd.service.schema import RunOrder
from fedlmd.service.server import in_background, serve
from tests.service.conftest import client_of
from tests.service.training_host import TrainingHost


def test_health_names_the_node_and_its_state(predicting, trained):
    body = predicting.get("/health").raise_for_status().json()
    assert body.pop("uptime") >= 0
    assert body.pop("data")["state"] == "usable"
    assert body.pop("connection")["state"] == "connected"
    assert body.pop("drift") in (None, {"state": "steady", "images": trained.drift().images, "alarms": 0})
    assert body == {
        "status": "ok",
        "name": "worker1",
        "role": "worker",
        "release": trained.current,
        "training": False,
        "progress": None,
        "jobs": 0,
        "workers": None,
        "connected": True,
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/nothing", 404, "there is nothing at '/nothing'; see /docs"),
        ("GET", "/infer", 405, "GET is not allowed at '/infer'; use POST"),
        ("DELETE", "/health", 405, "use GET"),
    ],
)
def test_an_unknown_path_or_method_is_an_error_with_a_message(predicting, method, path, status, says):
    reply = predicting.request(method, path)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert says in reply.json()["error"]


def test_the_documentation_describes_every_route(predicting):
    paths = predicting.get("/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods} == {
        "POST /infer",
        "POST /train-worker-on-labels-list",
        "GET /v1/jobs",
        "GET /v1/jobs/{job}",
        "GET /v1/jobs/{job}/events",
        "DELETE /v1/jobs/{job}",
        "GET /v1/drift",
        "DELETE /v1/drift",
        "GET /v1/release",
        "PUT /v1/release",
        "GET /v1/releases",
        "GET /v1/workers",
        "POST /v1/runs",
        "GET /v1/runs",
        "GET /v1/runs/{run}",
        "GET /v1/runs/{run}/events",
        "DELETE /v1/runs/{run}",
        "GET /health",
        "GET /metrics",
    }
    assert all(route["description"] for methods in paths.values() for route in methods.values())
    assert predicting.get("/docs").status_code == 200


def test_a_defect_is_an_error_with_a_message_and_in_the_log(host, caplog):
    host.list = lambda: [1 // 0]
    with client_of(host) as client:
        reply = client.get("/v1/releases")
        assert (reply.status_code, reply.json()) == (500, {"error": "the node failed at this; its log says why"})
        assert client.get("/health").status_code == 200
    assert "ZeroDivisionError" in caplog.text


def test_open_streams_do_not_hold_up_the_end(tmp_path, images, runs):
    runs.start(RunOrder())
    with in_background(create_app(TrainingHost(tmp_path, images, runs))) as url:
        lines, connected = [], threading.Event()

        def read():
            with httpx.stream("GET", f"{url}/v1/runs/run-1/events", timeout=20) as reply:
                for line in reply.iter_lines():
                    lines.append(line)
                    if line.startswith("data: "):
                        connected.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert connected.wait(10)
        start = time.monotonic()
    reader.join(10)
    assert not reader.is_alive()
    assert time.monotonic() - start < 2.5


def test_a_port_that_is_taken_is_named(predicting, host):
    port = int(str(predicting.base_url).rsplit(":", 1)[1].strip("/"))
    with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1 port {port}"):
        serve(create_app(host), "127.0.0.1", port)


PROGRAM = """
import socket, sys
from fedlmd.service.app import create_app
from fedlmd.service.server import serve
class Host:
    name, role = "client1", "worker"
    current = progress = watched = data = connection = None
    def workers(self):
        return None
    @property
    def releases(self):
        return self
serve(create_app(Host()), "127.0.0.1", int(sys.argv[1]))
print("closed in good order")
"""


def test_a_signal_ends_the_service_and_gives_control_back(free_port):
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(free_port)], stdout=subprocess.PIPE, text=True)
    try:
        wait_until_it_answers(free_port)
        os.kill(process.pid, signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "closed in good order\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def wait_until_it_answers(port):
    end = time.monotonic() + 60
    while True:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
        except httpx.ConnectError:
            assert time.monotonic() < end
            time.sleep(0.1)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
