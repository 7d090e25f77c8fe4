"""Detection on photographs: figures from rows by hand, and the settings of the federated task."""

from pathlib import Path

import pytest

from benchmarks import photos_federated
from benchmarks.photos import PhotosConfig as Config
from benchmarks.photos import figures_of, tasks_of
from fedlmd.data import DataConfig, PartitionConfig
from fedlmd.progress import drain
from fedlmd.settings import from_mapping
from fedlmd.worker.images import WorkerConfig
from tests.tiny_encoder import SETTINGS, paint, write_encoder


def row(task, verdict, **more):
    scores = {name: {"unknown": verdict - 0.1} for name in ("one-step", "lmd")}
    scores["verdict"] = {"unknown": verdict, "far_mnist": 1.0, "far_tiles": 0.98}
    figures = {"accuracy": 0.9, "false_alarms": 0.05, "minutes_train": 2.0, "ms_per_verdict_p50": 90.0}
    return {"task": task, "scores": scores, **figures, **more}


def test_figures_are_means_over_splits_and_the_gap_is_that_of_the_same_split():
    rows = [
        row("sign-0", 0.96, rivals={}),
        row("sign-1", 0.9, rivals={}),
        row("tiles", 0.7, rivals={}, heat={"aupro": 0.6}),
    ]
    rows += [row("sign-0-iid", 0.95, bytes_per_round=7), row("sign-0-scratch", 0.8)]
    figures = figures_of(rows)
    assert figures["auroc_sign64"] == 0.93
    assert figures["splits_sign64"] == 2
    assert figures["auroc_tiles"] == 0.7
    assert figures["auroc_sign64_diffusion"] == pytest.approx(0.83)
    assert (figures["auroc_far"], figures["auroc_far_lowest"]) == (0.99, 0.98)
    assert figures["federated_gap_sign64_iid"] == pytest.approx(0.01)
    assert figures["auroc_sign64_scratch"] == 0.8
    assert figures["bytes_per_round"] == 7
    assert figures["heat_aupro"] == 0.6
    assert not any("cifar" in name for name in figures)


def test_only_tasks_whose_folder_is_given_are_measured():
    config = Config({"sign": Path("signs")}, Path("out"), tasks=("sign-2", "tiles"))
    assert [task.name for task in tasks_of(config)] == ["sign-2"]
    assert len(tasks_of(Config({"sign": Path("signs"), "tiles": Path("tiles")}, Path("out")))) == 9


def test_the_federated_task_has_the_settings_that_one_site_would_have(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDLMD_ENCODERS", str(write_encoder(tmp_path / "encoders")))
    paint(tmp_path / "images")
    seen = []

    def release_of(settings, folder, denoisers):
        seen.append(settings)
        yield from ()
        return folder

    monkeypatch.setattr(photos_federated, "release_of", release_of)
    monkeypatch.setattr(photos_federated, "bytes_up", lambda folder: 40.0)
    worker = WorkerConfig("site", DataConfig(str(tmp_path / "images")))
    partition = PartitionConfig("iid", 2)
    folder, more = drain(photos_federated.federated(from_mapping(SETTINGS), worker, partition, tmp_path))
    [settings] = seen
    assert (folder, more) == (tmp_path, {"bytes_per_round": 10})
    assert settings.is_resolved
    assert settings.has_latents
    assert settings.data.partition == partition
    assert settings.federation.rounds == photos_federated.ROUNDS
