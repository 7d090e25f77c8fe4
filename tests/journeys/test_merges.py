"""Federated runs in one process, with both networks: from the workers' denoisers to releases that predict."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from benchmarks.federated import bytes_up, release_of
from fedlmd.data import DataConfig, PartitionConfig, load
from fedlmd.detection import OneStep, Union
from fedlmd.federation.events import EventLog
from fedlmd.inference import Predictor
from fedlmd.models import UNet, build
from fedlmd.progress import drain
from fedlmd.release import half, load_release
from fedlmd.settings import to_mapping
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.worker import Worker

LISTS = (("0", "1"), ("1", "2"))
LOCAL = tuple(f"denoiser.{layer}" for layer in UNet.local_layers)


@pytest.fixture(scope="module")
def runs(tiny_settings, tmp_path_factory):
    """A release of every merge, by its name, with the run's folder; and the settings that they share."""
    home = tmp_path_factory.mktemp("merges")
    calibration = replace(tiny_settings.calibration, images=20, described=200)
    data = DataConfig(partition=PartitionConfig("labels", 2, LISTS))
    base = replace(tiny_settings, data=data, calibration=calibration)
    base = replace(base, classifier=replace(base.classifier, steps=40))
    by_merge = {}
    for merge in ("rounds", "partial", "average", "mixture", "union"):
        federation = replace(base.federation, rounds=2, merge=merge)
        settings = replace(base, federation=federation)
        path = drain(release_of(settings, home / merge, home))
        by_merge[merge] = (load_release(path), home / merge, settings)
    return by_merge


def own_denoisers(settings, weights):
    """The results of each worker's own training of the denoiser, without a server."""
    config = {"settings": to_mapping(settings), "run": "again"}
    initial = build(settings.networks).weights()
    workers = [Worker(WorkerConfig(f"worker-{number}", settings.data, number)) for number in range(2)]
    return [drain(worker.handle("denoiser", config, {**initial, **weights})) for worker in workers]


def classifier_of(run):
    return {name: array for name, array in run.items() if name.startswith("classifier.")}


@pytest.mark.parametrize("merge", ["rounds", "partial", "average", "mixture", "union"])
def test_the_release_of_every_merge_predicts_and_explains(runs, merge):
    release, folder, _ = runs[merge]
    predictor = Predictor(release, worker="worker-0")
    images = load("mnist", "eval", labels=["0", "1", "2"]).images(range(4))
    predictions = predictor.predict(images)
    assert all(np.isfinite(prediction.score) and 0 < prediction.p_value <= 1 for prediction in predictions)
    assert predictor.explain(images[:1]).heat.shape == (28, 28)
    assert release.card["settings"]["federation"]["merge"] == merge
    assert EventLog(folder).final()["event"] == "finished"
    # An image gets the same scores whatever others come with it.
    alone = predictor.scores(images[:1], ["one-step", "lmd"])
    for name, scores in predictor.scores(images, ["one-step", "lmd"]).items():
        torch.testing.assert_close(scores[:1], alone[name], atol=1e-4, rtol=1e-4)


def test_one_shot_merges_hold_what_the_workers_trained_by_themselves(runs):
    release, folder, settings = runs["average"]
    arrays = load_file(folder / "round-002.safetensors")
    final = {name: array for name, array in arrays.items() if not name.startswith("strategy/")}
    assert final.keys() == classifier_of(final).keys()
    results = own_denoisers(settings, final)
    counts = np.array([result.metrics["num-examples"] for result in results], float)
    for name, array in half(results[0].weights).items():
        mean = sum(count * result.weights[name] for count, result in zip(counts, results, strict=True)) / counts.sum()
        np.testing.assert_allclose(release.weights[name], mean.astype(array.dtype), atol=2e-3)
    for merge in ("mixture", "union"):
        weights = runs[merge][0].weights
        for number, result in enumerate(results):
            for name, array in half(result.weights).items():
                inner = name.removeprefix("denoiser.")
                np.testing.assert_array_equal(weights[f"denoiser.members.{number}.{inner}"], array)
        shares = np.array([result.metrics["labels"] for result in results], float)
        np.testing.assert_allclose(weights["denoiser.shares"], shares / shares.sum(0), atol=1e-3)


def test_with_partial_sharing_the_workers_differ_in_their_local_layers_alone_and_send_less(runs):
    weights = runs["partial"][0].weights
    first = {name: array for name, array in weights.items() if name.startswith("denoiser.members.0.")}
    for name, array in first.items():
        other = weights[name.replace("members.0", "members.1")]
        local = name.replace("members.0.", "").startswith(LOCAL)
        if not local:
            np.testing.assert_array_equal(array, other, err_msg=name)
    moved = [n for n, a in first.items() if not np.array_equal(a, weights[n.replace("members.0", "members.1")])]
    assert moved


def test_what_a_worker_sends_is_its_part_of_every_round_and_its_denoiser_where_that_is_sent_once(runs):
    first, rounds = build(runs["rounds"][2].networks).weights(), 2
    size = {name: array.nbytes for name, array in first.items()}
    denoiser = sum(size[name] for name in size if name.startswith("denoiser."))
    local = sum(size[name] for name in size if name.startswith(LOCAL))
    every = sum(size.values())
    expected = {
        "rounds": rounds * every,
        "partial": rounds * (every - local) + denoiser,
        "average": rounds * (every - denoiser) + denoiser,
    }
    expected |= {"mixture": expected["average"], "union": expected["average"]}
    for merge, arrays in expected.items():
        # Beside the arrays only their names and shapes, and the figures of a round.
        assert arrays < bytes_up(runs[merge][1]) < arrays + 12_000 * (rounds + 1), merge


def test_the_union_is_the_lowest_of_the_workers_own_scores(runs):
    release, *_ = runs["union"]
    predictor = Predictor(release)
    assert isinstance(predictor.detectors["one-step"], Union)
    images = load("mnist", "eval", labels=["0", "1", "2"]).images(range(12))
    labels = predictor.networks.classifier(images).argmax(1)
    expected = torch.full((12,), torch.inf)
    for number, member in enumerate(predictor.networks.denoiser.members):
        like = predictor.detectors["one-step"].detectors[number]
        assert isinstance(like, OneStep)
        assert like.denoiser is member
        mean, std = (float(predictor.networks.denoiser.get_buffer(name)[number, 0]) for name in ("means", "stds"))
        holds = torch.tensor([str(int(label)) in LISTS[number] for label in labels])
        scores = (like.score(images) - mean) / std
        expected = torch.where(holds, torch.minimum(expected, scores), expected)
    torch.testing.assert_close(predictor.scores(images, ["one-step"])["one-step"], expected, atol=1e-4, rtol=1e-4)


def test_a_run_that_is_finished_is_not_done_again(runs):
    release, folder, settings = runs["union"]
    before = (folder / "events.jsonl").read_bytes()
    assert drain(release_of(settings, folder, folder.parent)).name == release.id
    assert (folder / "events.jsonl").read_bytes() == before
