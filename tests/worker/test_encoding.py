"""Workers whose networks work on an encoder's latents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedlmd.calibration import Moments, added, cell_sums, gaussians, whitening
from fedlmd.data import DataConfig, PartitionConfig, PixelRules, load
from fedlmd.detection import DETECTORS, class_gaussians
from fedlmd.inference import Predictor, detector_inputs, heat_of_cells
from fedlmd.models import EncoderConfig, EncoderError, LatentEncoder, build
from fedlmd.progress import drain
from fedlmd.release import Release, ReleaseError, half, load_release, save_release
from fedlmd.settings import from_mapping, to_mapping
from fedlmd.worker.alone import resolved, train_alone
from fedlmd.worker.encoding import Encoding, StoredMaps
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.scores import nearest_right
from fedlmd.worker.training import fit_part, parts
from fedlmd.worker.worker import Worker
from tests.tiny_encoder import SETTINGS, paint, write_encoder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("photographs")


@pytest.fixture(autouse=True)
def encoders(place, monkeypatch):
    if not (place / "encoders").exists():
        write_encoder(place / "encoders")
        paint(place / "images")
    monkeypatch.setenv("FEDLMD_ENCODERS", str(place / "encoders"))


@pytest.fixture
def settings(place):
    data = {"source": str(place / "images"), "held_back": 0.3}
    return from_mapping({**SETTINGS, "data": data}).resolved([])[0]


def test_resolved_settings_know_the_shape_of_the_latents(settings):
    assert (settings.encoder.features, settings.encoder.side, len(settings.encoder.digest)) == (9, 4, 64)
    assert (settings.networks.classifier.image_size, settings.networks.classifier.channels) == (4, 5)
    assert settings.is_resolved
    assert from_mapping(to_mapping(settings)) == settings
    assert settings.classifier.augmentation.mirror


def test_training_alone_gives_a_release_that_predicts_photographs(settings, place, tmp_path):
    worker = WorkerConfig("alone", settings.data, store=tmp_path / "maps.sqlite")
    result = drain(train_alone(worker, settings))
    path = save_release(tmp_path / "releases", result.metrics["card"], result.weights)
    predictor = Predictor(load_release(path))
    assert result.metrics["accuracy"] > 0.9
    rules = settings.pixel_rules
    known = load(str(place / "images"), "eval", rules=rules, labels=("red", "green"))
    unknown = load(str(place / "images"), "eval", rules=rules, labels=("blue",))
    right = [known.names[label] for label in known.labels.tolist()]
    assert [prediction.label for prediction in predictor.predict(known.images())] == right
    low, high = (
        torch.tensor([prediction.score for prediction in predictor.predict(images.images())])
        for images in (known, unknown)
    )
    assert high.min() > low.median()
    explained = predictor.explain(known.images()[:1])
    assert explained.heat.shape == (64, 64)
    assert explained.redrawings is None
    latents = predictor.inputs.maps(predictor.networks.encode(known.images()[:1]))
    cells = heat_of_cells(predictor.settings, predictor.inputs, latents)
    beyond = (cells - predictor.scale["heat"].mean - predictor.scale["heat"].std).clamp(min=0)
    torch.testing.assert_close(explained.heat, F.interpolate(beyond[:, None], (64, 64), mode="bilinear")[0, 0])


def test_calibration_measures_the_heat_of_cells_and_how_often_the_classifier_is_right(settings, place):
    worker = federation(settings, 1)[0]
    weights = half(build(settings.networks).weights()) | fitted([worker], settings)
    weights |= gaussians(send(worker, "sums", settings, weights).weights)
    measured = send(worker, "moments", settings, weights).metrics
    chosen, networks = drain(worker.images(settings, weights)).held_back, build(settings.networks, weights)
    inputs = detector_inputs(settings, networks, weights)
    latents = chosen.images()
    heat = heat_of_cells(settings, inputs, inputs.maps(latents))
    assert measured["heat"] == pytest.approx(
        {"count": heat.numel(), "mean": float(heat.mean()), "std": float(heat.std(correction=0))}, rel=1e-4
    )
    detector = DETECTORS["descriptor"](inputs)
    nearest = (detector.nearest(latents) == chosen.labels).double()
    assert nearest_right(detector, chosen, CPU).mean().item() == pytest.approx(float(nearest.mean()))
    classified = networks.classifier(inputs.maps(latents)).argmax(1) == chosen.labels
    assert measured["right"]["mean"] == pytest.approx(float(classified.double().mean()))


def test_fine_tuned_blocks_train_and_predict_as_any_classifier(place, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    changes = {"encoder": {"name": "efficientnet-lite0"}, "image_size": 96, "models": {"denoiser": [8, 8]}}
    steps = {name: {"steps": 15, "batch_size": 16} for name in ("classifier", "thumbnails")}
    data = {"source": str(place / "images"), "held_back": 0.3}
    settings = from_mapping({**SETTINGS, **changes, **steps, "data": data})
    result = drain(train_alone(WorkerConfig("alone", settings.data), settings))
    assert result.metrics["card"]["settings"]["models"]["classifier_network"] == "cnn+blocks"
    assert result.metrics["accuracy"] > 0.9
    names = [name for name in result.weights if name.startswith("classifier.last_blocks.")]
    assert len(names) == 22
    path = save_release(tmp_path / "releases", result.metrics["card"], result.weights)
    rules = resolved(WorkerConfig("alone", settings.data), settings).pixel_rules
    known = load(str(place / "images"), "eval", rules=rules, labels=("red", "green"))
    predicted = [prediction.label for prediction in Predictor(load_release(path)).predict(known.images())]
    right = [known.names[label] for label in known.labels.tolist()]
    assert sum(map(str.__eq__, predicted, right)) > 0.9 * len(right)


def test_the_network_of_thumbnails_is_trained_by_itself(place):
    pytest.importorskip("efficientnet_lite_pytorch")
    data = {"source": str(place / "images"), "held_back": 0.3}
    changes = {"encoder": {"name": "efficientnet-lite0"}, "image_size": 96, "models": {"denoiser": [8, 8]}}
    training = {"thumbnails": {"batch_size": 8}, "classifier": {"batch_size": 8, "weight_decay": 0.2}}
    settings = from_mapping({**SETTINGS, **changes, **training, "data": data}).resolved([])[0]
    worker = federation(settings, 1)[0]
    sums = send(worker, "cells", settings).weights
    constants = whitening(sums, settings.encoder.channels, settings.encoder.leading)
    before = build(settings.networks).weights()
    images, networks = drain(worker.images(settings, constants)), build(settings.networks, before | constants)
    steps = list(fit_part("thumbnails", networks, images, settings, range(2), seed=0))
    assert [(step.stage, step.done, step.total) for step in steps] == [("thumbnails", 1, 2), ("thumbnails", 2, 2)]
    changed = [name for name, array in networks.weights().items() if not np.array_equal(array, before[name])]
    assert changed
    assert all(name.startswith("classifier.thumbnail_cnn.") for name in changed)
    assert list(parts(settings)) == ["classifier", "thumbnails", "denoiser"]
    # Nor does the training of the classifier change it, with FedProx's pull or without.
    before = networks.weights()
    list(fit_part("classifier", networks, images, settings, range(2), seed=0, mu=0.1))
    changed = [name for name, array in networks.weights().items() if not np.array_equal(array, before[name])]
    assert changed
    assert not any(name.startswith("classifier.thumbnail_cnn.") for name in changed)


def test_a_release_without_its_encoder_or_with_another_is_refused(settings, tmp_path, monkeypatch):
    result = drain(train_alone(WorkerConfig("alone", settings.data), settings))
    monkeypatch.setenv("FEDLMD_ENCODERS", str(tmp_path))
    with pytest.raises(ReleaseError, match=r"needs its encoder.*cells\.pt"):
        Predictor(Release("x", result.metrics["card"], result.weights))
    file = write_encoder(tmp_path) / "cells.pt"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ReleaseError, match="digest"):
        Predictor(Release("x", result.metrics["card"], result.weights))


def federation(settings, count):
    data = replace(settings.data, partition=PartitionConfig("iid", count))
    return [Worker(WorkerConfig(f"worker-{number}", data, number)) for number in range(count)]


def send(worker, action, settings, weights=None, **config):
    return drain(worker.handle(action, {"settings": to_mapping(settings), **config}, weights or {}))


def fitted(workers, settings):
    return whitening(added([send(worker, "cells", settings).weights for worker in workers]), 5)


def test_the_whitening_of_a_federation_is_that_of_its_training_images_at_one_place(settings):
    workers = federation(settings, 3)
    maps = [drain(worker.config.loading(settings, LatentEncoder(settings.encoder))) for worker in workers]
    together = whitening(cell_sums(np.concatenate([part.training.pixels.numpy() for part in maps])), 5)
    federated = fitted(workers, settings)
    assert all(np.array_equal(federated[name], together[name]) for name in together)


def test_a_round_on_latents_gives_updates_of_the_networks_alone(settings):
    workers = federation(settings, 2)
    constants = fitted(workers, settings)
    weights = build(settings.networks).weights()
    results = [send(worker, "train", settings, {**weights, **constants}, round=1) for worker in workers]
    assert all(result.weights.keys() == weights.keys() for result in results)
    final = half(results[0].weights) | constants
    final |= gaussians(added([send(worker, "sums", settings, final).weights for worker in workers]))
    moments = send(workers[0], "moments", settings, final).metrics
    assert Moments(**moments["mahalanobis"]).count == len(workers[0].loaded[2].held_back)
    assert class_gaussians(final).counts.sum() == sum(len(worker.loaded[2].training) for worker in workers)


def test_a_worker_without_the_runs_encoder_says_so(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLMD_ENCODERS", str(tmp_path))
    with pytest.raises(EncoderError, match=r"cells\.pt"):
        send(federation(settings, 1)[0], "cells", settings)


def make_encoding(settings, store):
    return Encoding(LatentEncoder(settings.encoder), settings.pixel_rules, store, CPU)


def test_stored_maps_are_those_that_were_encoded_and_of_no_other_rules_or_encoder(settings, tmp_path):
    raw, pixels = b"bytes of a file", torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    store = StoredMaps(tmp_path / "maps.sqlite")
    encoding = make_encoding(settings, store)
    assert encoding.stored(raw) is None
    maps = encoding([raw], pixels)
    store.close()
    again = make_encoding(settings, StoredMaps(tmp_path / "maps.sqlite"))
    assert torch.equal(again.stored(raw), maps[0])
    assert again.stored(b"others") is None
    other = make_encoding(replace(settings, images=replace(settings.images, invert=True)), store)
    assert other.stored(raw) is None
    assert again.key(np.zeros((2, 2))) != again.key(np.zeros((4, 1)))


def test_the_store_stays_below_its_bound_and_drops_the_oldest_first(tmp_path):
    store = StoredMaps(tmp_path / "maps.sqlite", most=400_000)
    for number in range(100):
        store.put([(bytes([number]), bytes(10_000))])
    kept = [number for number in range(100) if store.get(bytes([number]))]
    assert 20 <= len(kept) <= 50
    assert kept == list(range(kept[0], 100))


def test_a_store_that_cannot_be_written_stores_nothing(settings, tmp_path):
    (tmp_path / "file").touch()
    encoding = make_encoding(settings, StoredMaps(tmp_path / "file" / "maps.sqlite"))
    assert encoding([b"x"], torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape == (1, 9, 2, 2)
    assert encoding.stored(b"x") is None
    assert "cannot be used" in encoding.store.problem


def test_a_damaged_store_is_not_used(settings, tmp_path):
    (tmp_path / "maps.sqlite").write_bytes(b"no database" * 1000)
    encoding = make_encoding(settings, StoredMaps(tmp_path / "maps.sqlite"))
    assert encoding.stored(b"x") is None


def test_the_encoder_of_a_run_can_be_named_by_its_images(place):
    data = DataConfig(str(place / "images"))
    survey = WorkerConfig("x", data).survey()
    chosen = from_mapping({"labels": ["red", "green"]}).resolved([survey.facts])
    assert chosen[0].encoder.name in ("efficientnet-lite0", "pixels")
    assert "photographs" in chosen[1][0]
    small = from_mapping({"labels": ["red", "green"], "image_size": 32}).resolved([survey.facts])[0]
    assert small.encoder == EncoderConfig("pixels")
    assert small.pixel_rules == replace(PixelRules(32, 3), window=small.pixel_rules.window)
