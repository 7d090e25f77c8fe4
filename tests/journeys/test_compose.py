"""The cluster of compose.yaml with a real container engine."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from fedlmd.service.client import NodeClient, NodeError
from tests.journeys.test_federation import image_of

ROOT = Path(__file__).parent.parent.parent
PORTS = {"server": 9000, "client1": 8800, "client2": 8000}
QUICK = {
    "classifier": {"steps": 60},
    "denoiser": {"steps": 30},
    "calibration": {"images": 40},
    "federation": {"rounds": 2},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def compose_command():
    """``docker compose`` where the plugin is there, else ``docker-compose``."""
    plugin = ["docker", "compose"]
    has_plugin = subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0
    return plugin if has_plugin else ["docker-compose"]


@pytest.fixture(scope="module")
def nodes():
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode != 0:
        pytest.skip("no container engine answers here: start one, then run this again")
    compose = [*compose_command(), "-f", str(ROOT / "compose.yaml"), "-p", "fedlmd-test"]
    environment = {"TORCH_INDEX": "", **os.environ}

    def run(*arguments):
        subprocess.run([*compose, *arguments], check=True, env=environment, cwd=ROOT)

    start = time.monotonic()
    run("build")
    built = time.monotonic()
    try:
        run("up", "-d")
        clients = {name: NodeClient(f"http://127.0.0.1:{port}") for name, port in PORTS.items()}
        wait_for(clients)
        print(f"build {built - start:.0f} s, up {time.monotonic() - built:.0f} s, image {image_size() / 2**20:.0f} MiB")
        yield clients
    finally:
        run("logs", "--tail", "30")
        stop = time.monotonic()
        run("down", "-v")
        print(f"down {time.monotonic() - stop:.0f} s")


def image_size():
    """Bytes of the image on the disk."""
    output = subprocess.run(
        ["docker", "image", "inspect", "fedlmd:latest", "--format", "{{.Size}}"], capture_output=True, text=True
    )
    return int(output.stdout)


def wait_for(clients):
    deadline = time.monotonic() + 240
    for client in clients.values():
        while True:
            try:
                client.health()
                break
            except NodeError:
                assert time.monotonic() < deadline, f"{client.url} did not answer"
                time.sleep(1)


def test_the_cluster_comes_up_trains_together_and_each_node_answers(nodes):
    start = time.monotonic()
    events = list(nodes["server"].events(nodes["server"].start_run({"settings": QUICK})))
    assert events[-1]["event"] == "finished", events[-1]
    assert sorted(events[-1]["installed"]) == ["client1", "client2"]
    print(f"run {time.monotonic() - start:.0f} s")
    for name, node in nodes.items():
        prediction = node.infer(image_of("1"))
        assert prediction["release"] == events[-1]["release"], name
        assert prediction["prediction"] in range(5)
        assert isinstance(prediction["is_ood"], bool)


def test_the_program_does_not_run_as_root_and_knows_its_shipped_release(nodes):
    user = subprocess.run(
        ["docker", "ps", "-q", "--filter", "label=com.docker.compose.service=client1"], capture_output=True, text=True
    ).stdout.strip()
    seen = subprocess.run(["docker", "exec", user, "id", "-u"], capture_output=True, text=True).stdout.strip()
    assert seen == "10001"
    assert nodes["client1"].infer(image_of("2"), release="pretrained")["prediction"] == 2
