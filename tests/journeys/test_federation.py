"""A federated run over real processes: three nodes, Flower between them, both networks, REST on top."""

import io
import json

import httpx
import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from fedlmd.data import load
from fedlmd.inference import Predictor
from fedlmd.node.cluster import Cluster, free_port
from fedlmd.release import load_release
from fedlmd.service.client import NodeClient, NodeError
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


def image_of(digit):
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


def test_the_server_knows_its_workers_and_their_labels(cluster, events):
    server = NodeClient(cluster.server.url)
    workers = server.workers()
    assert [(worker["name"], worker["connected"], worker["problem"]) for worker in workers] == [
        ("client1", True, None),
        ("client2", True, None),
    ]
    # The same images that the rounds are trained on, with the tenth that is held back.
    images = load("mnist", "train").labels.numpy()
    assert sum(sum(worker["labels"].values()) for worker in workers) == np.isin(images, [0, 1, 2]).sum()
    assert [list(worker["labels"]) for worker in workers] == [["0", "1"], ["0", "2"]]
    assert server.health()["workers"] == figures_of(cluster.server)[("fedlmd_workers_connected",)] == 2
    assert (events[-1]["workers"], events[-1]["expected"]) == (2, 2)
    health = NodeClient(cluster.workers[0].url).health()
    assert (health["connected"], health["data"]["state"]) == (True, "usable")


def test_workers_hold_no_image_in_common(events):
    # Label 0 is shared by both: its 5,923 images are divided, and a tenth of each label is held back.
    [round_one] = [event for event in events if event["event"] == "round"]
    images = {worker["name"]: worker["metrics"]["num-examples"] for worker in round_one["workers"]}
    labels = load("mnist", "train").labels.numpy()
    assert sum(images.values()) == pytest.approx(0.9 * np.isin(labels, [0, 1, 2]).sum(), rel=1e-3)


def test_every_node_gives_the_same_score_and_class_and_decides_by_its_own_images(cluster, events):
    predictions = [NodeClient(node.url).infer(image_of("1")) for node in cluster.nodes]
    assert {prediction["release"] for prediction in predictions} == {events[-1]["release"]}
    for prediction in predictions[1:]:
        assert prediction["score"] == pytest.approx(predictions[0]["score"], abs=1e-4)
        assert prediction["prediction"] == predictions[0]["prediction"]
    # Each worker decides by its own images, the server by all.
    release = load_release(cluster.home / "server" / "releases" / events[-1]["release"])
    for node, prediction in zip(cluster.nodes, predictions, strict=True):
        limit = Predictor(release, node.name).references["verdict"].threshold(prediction["alpha"])
        assert prediction["threshold"] == pytest.approx(limit)
        assert prediction["is_ood"] == (prediction["p_value"] <= prediction["alpha"])
    assert len({prediction["threshold"] for prediction in predictions}) > 1


def test_the_release_says_how_it_was_made_and_what_it_reached(cluster, events):
    release = load_release(cluster.home / "server" / "releases" / events[-1]["release"])
    assert release.card["training"]["how"] == "federated"
    assert release.card["settings"]["labels"] == ["0", "1", "2"]
    # 2 workers x at most 60 held-back images, each scored by every detector.
    assert {sketch["count"] for sketch in release.card["calibration"]["sketches"].values()} == {120}
    assert len(release.card["self_test"]["unknown"]) == 8
    sites = release.card["calibration"]["sites"]
    assert {name: sketches["verdict"]["count"] for name, sketches in sites.items()} == {"client1": 60, "client2": 60}
    # The workers' evaluation images are together all of MNIST's test images of these labels.
    everything = load("mnist", "eval", labels=["0", "1", "2"])
    measured = evaluate(Predictor(release).networks.classifier, everything)
    assert release.card["metrics"]["images"] == measured.images == 980 + 1135 + 1032
    assert release.card["metrics"]["accuracy"] == pytest.approx(measured.accuracy, abs=1e-6)
    assert release.card["metrics"]["loss"] == pytest.approx(measured.loss, rel=1e-4)
    assert sorted(release.card["metrics"]["workers"]) == ["client1", "client2"]
    assert json.dumps(release.card).isascii()
    # Each worker kept its denoiser's local layers; the release holds both, and each worker's share of the labels.
    shares = release.weights["denoiser.shares"]
    np.testing.assert_allclose(shares.sum(0), 1, atol=2e-3)
    assert sorted(np.round(shares, 2).tolist()) == [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]


def figures_of(node):
    """A node's Prometheus metrics: value by name and labels."""
    text = httpx.get(f"{node.url}/metrics", trust_env=False).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_prometheus_gets_the_figures_of_the_event_log(cluster, events):
    metrics, [round_one] = figures_of(cluster.server), [event for event in events if event["event"] == "round"]
    assert metrics[("fedlmd_run_state", "finished")] == metrics[("fedlmd_run_round",)] == 1
    assert metrics[("fedlmd_round_seconds",)] == round_one["seconds"]
    for worker in round_one["workers"]:
        figures = worker["metrics"]
        for part in ("classifier", "denoiser"):
            assert metrics[("fedlmd_worker_loss", *sorted((part, worker["name"])))] == figures[f"{part}-loss"]
            assert metrics[("fedlmd_worker_update_norm", *sorted((part, worker["name"])))] == figures[f"{part}-norm"]
        parts = {part: figures[f"seconds-{part}"] for part in ("loading", "training", "transfer", "waiting")}
        for part, seconds in parts.items():
            assert metrics[("fedlmd_worker_seconds", *sorted((part, worker["name"])))] == seconds
        # They are all of the round, up to the average itself.
        assert sum(parts.values()) == pytest.approx(round_one["seconds"], abs=1.5)
        assert metrics[("fedlmd_worker_bytes", worker["name"], "up")] == figures["bytes-up"]
    for node in cluster.nodes:
        metrics = figures_of(node)
        assert metrics[("fedlmd_release_info", events[-1]["release"])] == 1
        # Torch in the trainer and Flower's processes are the most of a node.
        assert metrics[("fedlmd_children_resident_memory_bytes",)] > 100e6


def test_the_round_is_kept_as_a_checkpoint(cluster, events):
    [run] = (cluster.home / "server" / "runs").iterdir()
    assert (run / "round-001.safetensors").stat().st_size > 10_000


def test_a_worker_trains_alone_on_a_list_of_labels_and_predicts_with_the_result(cluster, events):
    node = NodeClient(cluster.workers[0].url, timeout=200.0)
    trained = node.ask("POST", "/train-worker-on-labels-list", json={"labels_list": ["0", "1"]})
    assert trained["accuracy"] == trained["accuracy classification model"] > 60
    assert trained["loss"] == trained["loss classification model"] < 0.7
    assert node.infer(image_of("1"))["release"] == trained["release"]
    # The server still uses the federation's release.
    assert NodeClient(cluster.server.url).infer(image_of("1"))["release"] == events[-1]["release"]


def test_a_node_refuses_a_request_in_one_sentence(cluster):
    node = NodeClient(cluster.workers[0].url)
    with pytest.raises(NodeError, match=r"label 'x' has no image at client1; there are 0, 1"):
        node.ask("POST", "/train-worker-on-labels-list", json={"labels_list": ["0", "x"]})
    with pytest.raises(NodeError, match="outside"):
        node.ask(
            "POST", "/train-worker-on-labels-list", json={"labels_list": ["0", "1"], "directory_train": "../../server"}
        )
    with pytest.raises(NodeError, match="runs are started at the server"):
        node.ask("POST", "/v1/runs", json={})
    with pytest.raises(NodeError, match=r"federation\.roundz: there is no such key"):
        NodeClient(cluster.server.url).start_run({"settings": {"federation": {"roundz": 3}}})
