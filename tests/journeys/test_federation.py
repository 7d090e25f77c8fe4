"""The main job over real processes: three nodes, Flower between them, both networks, REST on top."""

import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from fedlmd import artifacts
from fedlmd.answer import Answerer
from fedlmd.client import NodeClient, NodeError
from fedlmd.cluster import Cluster, free_port
from fedlmd.data import load
from fedlmd.training import evaluate

SETTINGS = """
labels = ["0", "1", "2"]
[data.partition]
kind = "labels"
workers = 2
lists = [["0", "1"], ["0", "2"]]
[models]
classifier = [16, 16]
denoiser = [8, 16]
[classifier]
steps = 40
batch_size = 64
[denoiser]
steps = 10
batch_size = 16
[detector.lmd]
reconstructions = 2
inpainting = { steps = 2 }
[calibration]
images = 60
[federation]
rounds = 1
compression = "8-bit"
merge = "partial"
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    home = tmp_path_factory.mktemp("cluster")
    (home / "run.toml").write_text(SETTINGS)
    nodes = Cluster(home, home / "run.toml", (free_port(), free_port(), free_port()))
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture(scope="module")
def events(cluster):
    client = NodeClient(cluster.server.url)
    return list(client.events(client.start_run({})))


def picture(digit):
    images = load("mnist", "eval", labels=[digit])
    file = io.BytesIO()
    Image.fromarray(images.pixels[0, 0].numpy()).save(file, "PNG")
    return file.getvalue()


def test_one_round_trains_both_networks_on_both_workers(events):
    rounds = [event for event in events if event["event"] == "round"]
    assert [event["round"] for event in rounds] == [1]
    assert sorted(worker["name"] for worker in rounds[0]["workers"]) == ["client1", "client2"]
    assert rounds[0]["aggregated"]
    assert not rounds[0]["refused"]
    for worker in rounds[0]["workers"]:
        assert worker["metrics"]["classifier-loss"] > 0
        assert worker["metrics"]["denoiser-loss"] > 0
        assert worker["metrics"]["bytes-down"] > 3.5 * worker["metrics"]["bytes-up"]
        assert worker["metrics"]["classifier-norm"] > 0
        assert worker["metrics"]["denoiser-norm"] > 0
        seconds = {key: worker["metrics"][f"seconds-{key}"] for key in ("loading", "training", "transfer", "reply")}
        assert sum(seconds.values()) == pytest.approx(2 * seconds["reply"], abs=0.01)
        assert seconds["reply"] <= rounds[0]["seconds"] + 0.01
    assert events[-1]["event"] == "finished"
    assert sorted(events[-1]["installed"]) == ["client1", "client2"]


def test_workers_hold_no_image_in_common(events):
    # Label 0 is shared by both: its 5,923 images are divided, and a tenth of each label is held back.
    [round_one] = [event for event in events if event["event"] == "round"]
    images = {worker["name"]: worker["metrics"]["num-examples"] for worker in round_one["workers"]}
    labels = load("mnist", "train").labels.numpy()
    assert sum(images.values()) == pytest.approx(0.9 * np.isin(labels, [0, 1, 2]).sum(), rel=1e-3)


def test_every_node_gives_the_same_score_and_class_and_judges_by_its_own_images(cluster, events):
    answers = [NodeClient(node.url).infer(picture("1")) for node in cluster.nodes]
    assert {answer["release"] for answer in answers} == {events[-1]["release"]}
    for answer in answers[1:]:
        assert answer["score"] == pytest.approx(answers[0]["score"], abs=1e-4)
        assert answer["prediction"] == answers[0]["prediction"]
    # Each worker judges by its own images, the server by all.
    release = artifacts.load(cluster.home / "server" / "releases" / events[-1]["release"])
    for node, answer in zip(cluster.nodes, answers, strict=True):
        limit = Answerer(release, node.name).sketches["verdict"].threshold(answer["alpha"])
        assert answer["threshold"] == pytest.approx(limit)
        assert answer["is_ood"] == (answer["p_value"] <= answer["alpha"])
    assert len({answer["threshold"] for answer in answers}) > 1


def test_the_release_says_how_it_was_made_and_what_it_reached(cluster, events):
    release = artifacts.load(cluster.home / "server" / "releases" / events[-1]["release"])
    assert release.card["training"]["how"] == "federated"
    assert release.card["settings"]["labels"] == ["0", "1", "2"]
    # 2 sites x at most 60 held-back images, each scored by every detector.
    assert {of["count"] for of in release.card["calibration"]["sketches"].values()} == {120}
    assert len(release.card["self_test"]["unknown"]) == 8
    sites = release.card["calibration"]["sites"]
    assert {name: of["verdict"]["count"] for name, of in sites.items()} == {"client1": 60, "client2": 60}
    # The workers' evaluation images are together all of MNIST's test images of these labels.
    everything = load("mnist", "eval", labels=["0", "1", "2"])
    measured = evaluate(Answerer(release).networks.classifier, everything)
    assert release.card["metrics"]["images"] == measured.images == 980 + 1135 + 1032
    assert release.card["metrics"]["accuracy"] == pytest.approx(measured.accuracy, abs=1e-6)
    assert release.card["metrics"]["loss"] == pytest.approx(measured.loss, rel=1e-4)
    assert sorted(release.card["metrics"]["workers"]) == ["client1", "client2"]
    assert json.dumps(release.card).isascii()
    # Each worker kept its denoiser's way up; the release holds both, and who has which labels.
    shares = release.weights["denoiser.shares"]
    np.testing.assert_allclose(shares.sum(0), 1, atol=2e-3)
    assert sorted(np.round(shares, 2).tolist()) == [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]


def figures_of(node):
    """What a node tells Prometheus: value by name and labels."""
    text = httpx.get(f"{node.url}/metrics", trust_env=False).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_prometheus_is_told_what_the_diary_says(cluster, events):
    told, [round_one] = figures_of(cluster.server), [event for event in events if event["event"] == "round"]
    assert told[("fedlmd_run_state", "finished")] == told[("fedlmd_run_round",)] == 1
    assert told[("fedlmd_round_seconds",)] == round_one["seconds"]
    for worker in round_one["workers"]:
        of = worker["metrics"]
        for part in ("classifier", "denoiser"):
            assert told[("fedlmd_worker_loss", *sorted((part, worker["name"])))] == of[f"{part}-loss"]
            assert told[("fedlmd_worker_update_norm", *sorted((part, worker["name"])))] == of[f"{part}-norm"]
        parts = {part: of[f"seconds-{part}"] for part in ("loading", "training", "transfer", "waiting")}
        for part, seconds in parts.items():
            assert told[("fedlmd_worker_seconds", *sorted((part, worker["name"])))] == seconds
        # They are all of the round, up to the average itself.
        assert sum(parts.values()) == pytest.approx(round_one["seconds"], abs=1.5)
        assert told[("fedlmd_worker_bytes", worker["name"], "up")] == of["bytes-up"]
    for node in cluster.nodes:
        told = figures_of(node)
        assert told[("fedlmd_release_info", events[-1]["release"])] == 1
        # Torch in the trainer and Flower's processes are the most of a node.
        assert told[("fedlmd_children_resident_memory_bytes",)] > 100e6


def test_the_round_is_kept_as_a_checkpoint(cluster, events):
    [run] = (cluster.home / "server" / "runs").iterdir()
    assert (run / "round-001.safetensors").stat().st_size > 10_000


def test_a_worker_trains_alone_on_a_list_of_labels_and_answers_from_what_it_learnt(cluster, events):
    node = NodeClient(cluster.workers[0].url, timeout=200.0)
    trained = node.ask("POST", "/train-worker-on-labels-list", json={"labels_list": ["0", "1"]})
    assert trained["accuracy"] == trained["accuracy classification model"] > 60
    assert trained["loss"] == trained["loss classification model"] < 0.7
    assert node.infer(picture("1"))["release"] == trained["release"]
    # The server goes on with the federation's release.
    assert NodeClient(cluster.server.url).infer(picture("1"))["release"] == events[-1]["release"]


def test_what_a_node_refuses_it_refuses_in_one_sentence(cluster):
    node = NodeClient(cluster.workers[0].url)
    with pytest.raises(NodeError, match=r"label 'x' has no image at client1; there are 0, 1"):
        node.ask("POST", "/train-worker-on-labels-list", json={"labels_list": ["0", "x"]})
    with pytest.raises(NodeError, match="outside"):
        node.ask(
            "POST", "/train-worker-on-labels-list", json={"labels_list": ["0", "1"], "directory_train": "../../server"}
        )
    with pytest.raises(NodeError, match="runs are started at the server"):
        node.ask("POST", "/v1/runs", json={})
    with pytest.raises(NodeError, match="unknown or wrong setting"):
        NodeClient(cluster.server.url).start_run({"settings": {"federation": {"roundz": 3}}})
