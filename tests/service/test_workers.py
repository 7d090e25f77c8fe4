"""What a server lists of its workers, and what a worker says of its connection."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.service.conftest import client_of
from tests.service.training_host import TrainingHost

LISTED = {
    "name": "ward-7",
    "version": "0.1.0",
    "flower": "1.42.0",
    "labels": {"cat": 3},
    "images": {"depth": 8},
    "problem": None,
    "doing": {"stage": "classifier", "done": 3, "total": 10},
    "refused": None,
    "connected": True,
    "last_seen": "2026-11-27T20:00:00Z",
}
GONE = {**LISTED, "name": "ward-8", "labels": ["cat"], "images": None, "doing": None, "connected": False}
REFUSED = {**GONE, "name": "ward-9", "labels": None, "refused": "its clock is 400 s behind the server's"}


@pytest.fixture
def host(tmp_path, images, runs):
    return TrainingHost(tmp_path, images, runs)


def figures(client):
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_a_server_lists_its_workers_and_counts_those_that_are_connected(host):
    host.listed = [LISTED, GONE, REFUSED]
    with client_of(host) as client:
        assert client.get("/v1/workers").json() == [LISTED, GONE, REFUSED]
        health = client.get("/health").json()
        assert (health["workers"], health["connected"], health["connection"], health["data"]) == (1, None, None, None)
        assert figures(client)["fedlmd_workers_connected"] == 1


def test_a_server_whose_flower_does_not_respond_is_well_all_the_same(host):
    host.listed = None
    with client_of(host) as client:
        reply = client.get("/v1/workers")
        assert (reply.status_code, reply.json()) == (503, {"error": "Flower's server does not respond"})
        assert (client.get("/health").status_code, client.get("/health").json()["workers"]) == (200, None)
        assert "fedlmd_workers_connected" not in figures(client)


def test_a_worker_lists_no_workers_and_says_how_it_stands_with_its_server(tmp_path, images):
    host = TrainingHost(tmp_path, images)
    with client_of(host) as client:
        reply = client.get("/v1/workers")
        assert (reply.status_code, reply.json()) == (
            404,
            {"error": "worker1 is a worker; ask the server for its workers"},
        )
        health = client.get("/health").json()
        assert (health["workers"], health["connected"]) == (None, True)
        assert health["connection"].pop("since") is not None
        assert health["connection"] == {"server": "server:9092", "state": "connected", "reason": None}
        assert health["data"] == {
            "state": "usable",
            "problem": None,
            "labels": {"0": {"train": 60, "eval": 15}},
            "notes": ["a note"],
        }
        host.refused = "its clock is wrong"
        health = client.get("/health").json()
        assert (health["connected"], health["connection"]["reason"]) == (False, "its clock is wrong")
