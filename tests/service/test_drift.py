from concurrent.futures import ThreadPoolExecutor

import pytest

from fedlmd.data import load
from fedlmd.inference import channels_last, png
from fedlmd.release import PRETRAINED_FOLDER, load_release, save_release
from tests.service.conftest import client_of
from tests.service.training_host import TrainingHost


def infer(client, data, **query):
    return client.post("/infer", files={"image": ("x.png", data)}, params=query).raise_for_status().json()


def drift(client):
    return client.get("/v1/drift").raise_for_status().json()


@pytest.fixture(scope="module")
def known(images):
    """Distinct pictures of the digits that the release knows."""
    return [path.read_bytes() for label in "012" for path in sorted((images / "eval" / label).iterdir())]


@pytest.fixture(scope="module")
def unknown():
    """Distinct pictures of digits that it does not know."""
    return [png(channels_last(pixels.numpy())) for pixels in load("mnist", "eval", labels=["5", "8"]).pixels[:40]]


@pytest.fixture
def host(tmp_path, images):
    """A worker of the test's own, with the shipped release."""
    shipped = load_release(PRETRAINED_FOLDER)
    save_release(tmp_path / "releases", shipped.card, shipped.weights)
    own = TrainingHost(tmp_path / "releases", images)
    own.use(shipped.id)
    return own


def test_a_watch_that_has_seen_nothing_is_steady_and_says_what_it_promises(client, host):
    body = drift(client)
    assert body.pop("started").endswith("Z")
    below = body.pop("below")
    assert body == {
        "state": "steady",
        "release": host.current,
        "images": 0,
        "alarm": None,
        "alarms": 0,
        "evidence": 0.0,
        "threshold": 1e6,
        "luck": 0.01,
        "repeats": {"images": 0, "in_a_row": 0, "share": 0.0, "alarm": None},
    }
    assert [(entry["level"], entry["images"]) for entry in below] == [(0.01, 0), (0.05, 0), (0.2, 0)]
    assert all(entry["level"] < entry["limit"] < 1 for entry in below)


def test_every_new_image_counts_once_with_its_p_value(client, known):
    replies = [infer(client, data) for data in known]
    [infer(client, data) for data in known[:5]]
    body = drift(client)
    assert body["images"] == len(known)
    for entry in body["below"]:
        assert entry["images"] == sum(reply["p_value"] <= entry["level"] for reply in replies)
    assert client.get("/health").json()["drift"] == {"state": "steady", "images": len(known), "alarms": 0}


def test_test_traffic_other_detectors_and_references_do_not_count(client, known):
    infer(client, known[0], watch=False)
    infer(client, known[1], detector="max-logit")
    assert client.get("/health").json()["drift"] is None
    files = {"image": known[2], "image_in": known[3]}
    client.post("/infer", files=files, params={"alpha": 0.2}).raise_for_status()
    infer(client, known[4], detector="verdict")
    assert drift(client)["images"] == 2


def test_predictions_of_another_release_than_the_current_one_do_not_count(client, host, known):
    first = host.current
    infer(client, known[0])
    trained = client.post("/train-worker-on-labels-list", json={"labels_list": [0, 1], "seed": 3}).json()
    assert client.get("/health").json()["drift"] is None
    infer(client, known[1], release=first)
    assert (drift(client)["release"], drift(client)["images"]) == (trained["release"], 0)
    infer(client, known[0])
    assert drift(client)["images"] == 1


def test_unknown_images_raise_an_alarm_that_stays_until_it_is_reset(client, known, unknown):
    for data in known[:20]:
        infer(client, data)
    assert drift(client)["state"] == "steady"
    for data in unknown:
        infer(client, data)
    body = drift(client)
    assert (body["state"], body["images"], body["alarms"]) == ("drifting", 60, 1)
    assert 10 < body["alarm"]["since"] <= 21 < body["alarm"]["image"] <= 50
    assert body["evidence"] >= body["threshold"]
    for data in known[20:]:
        infer(client, data)
    assert drift(client)["alarm"] == body["alarm"]
    assert client.get("/health").json()["drift"]["state"] == "drifting"
    anew = client.delete("/v1/drift").raise_for_status().json()
    assert (anew["state"], anew["images"], anew["alarms"], anew["alarm"]) == ("steady", 0, 1, None)
    assert anew["started"] > body["started"]
    assert drift(client) == anew


def test_a_frozen_camera_is_noticed_though_the_drift_test_stays_steady(client, unknown):
    for _ in range(25):
        infer(client, unknown[0])
    body = drift(client)
    assert (body["state"], body["images"], body["alarm"]) == ("repeating", 1, None)
    assert body["repeats"].pop("alarm").pop("time").endswith("Z")
    assert body["repeats"] == {"images": 25, "in_a_row": 25, "share": 0.96}
    assert client.get("/health").json()["drift"] == {"state": "repeating", "images": 1, "alarms": 0}
    metrics = client.get("/metrics").text
    assert "fedlmd_repeats_alarm 1.0" in metrics
    assert 'fedlmd_drift_state{state="repeating"} 1.0' in metrics
    anew = client.delete("/v1/drift").raise_for_status().json()
    assert (anew["state"], anew["repeats"]) == ("steady", {"images": 0, "in_a_row": 0, "share": 0.0, "alarm": None})


def test_the_alarm_survives_a_restart(host, client, images, unknown):
    for data in unknown:
        infer(client, data)
    before = drift(client)
    again = TrainingHost(host.home, images)
    again.use(host.current)
    with client_of(again) as other:
        assert drift(other) == before
        assert other.get("/health").json()["drift"] == {"state": "drifting", "images": 40, "alarms": 1}


def test_images_sent_at_once_all_count_and_each_once(client, known, unknown):
    sent = [*known[:12], *unknown[:12]]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda data: infer(client, data), sent * 2))
    assert len(replies) == 48
    assert drift(client)["images"] == 24


def test_without_a_release_there_is_nothing_to_watch(server):
    for reply in (server.get("/v1/drift"), server.delete("/v1/drift")):
        assert reply.status_code == 503
        assert "no release yet" in reply.json()["error"]
    assert server.get("/health").json()["drift"] is None


def test_a_wrong_option_is_refused(client, digit):
    reply = client.post("/infer", files={"image": digit}, params={"watch": "perhaps"})
    assert (reply.status_code, reply.json()["error"].startswith("watch: ")) == (422, True)
