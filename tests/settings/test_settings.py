"""Settings: what a file leaves out keeps its default, and what is wrong in it is named."""

import json
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from fedlmd.calibration import CalibrationConfig
from fedlmd.data import DataConfig, PartitionConfig
from fedlmd.detection import PAPER, DetectorConfig, LMDConfig
from fedlmd.diffusion import InpaintingConfig, ScheduleConfig
from fedlmd.federation.config import FederationConfig
from fedlmd.models import ModelConfig
from fedlmd.settings import Settings, SettingsError, from_mapping, read, to_mapping

RUNS = sorted((Path(__file__).parents[2] / "runs").glob("*.toml"))

OTHER = Settings(
    labels=("cat", "dog"),
    image_size=32,
    channels=3,
    seed=7,
    data=DataConfig("faces", 0.25, partition=PartitionConfig("labels", 2, (("cat",), ("dog", "cat")), seed=1)),
    models=ModelConfig((8, 16), (16, 24), 2),
    schedule=ScheduleConfig(50, "linear"),
    detector=DetectorConfig(("lmd",), (0, 1), LMDConfig(distance="mse", inpainting=InpaintingConfig(5, 0.0, 0.5))),
    calibration=CalibrationConfig(0.01, 40),
    federation=FederationConfig(
        3, "krum", 0.5, 6, 5, 5.0, 10.0, 1, weighting="uniform", server_rate=0.5, trim=0.1, server_ema=0.5
    ),
)


def parse(text):
    return from_mapping(tomllib.loads(text))


@pytest.mark.parametrize("settings", [Settings(), OTHER])
def test_settings_survive_json(settings):
    assert from_mapping(json.loads(json.dumps(to_mapping(settings)))) == settings


def toml(mapping, path=()):
    """The mapping as TOML; its plain values happen to be written as JSON writes them."""
    plain = [f"{key} = {json.dumps(value)}" for key, value in mapping.items() if not isinstance(value, dict)]
    tables = [toml(value, (*path, key)) for key, value in mapping.items() if isinstance(value, dict)]
    return "\n".join([f"[{'.'.join(path)}]" if path else "", *plain, *tables])


@pytest.mark.parametrize("settings", [Settings(), OTHER])
def test_settings_survive_a_toml_file(tmp_path, settings):
    (tmp_path / "run.toml").write_text(toml(to_mapping(settings)))
    assert read(tmp_path / "run.toml") == settings


def test_an_empty_file_gives_the_defaults(tmp_path):
    (tmp_path / "run.toml").write_text("")
    assert read(tmp_path / "run.toml") == Settings()


def test_a_partial_table_keeps_the_runs_defaults_and_not_its_class():
    settings = parse("[classifier]\nsteps = 7\n[detector.lmd.inpainting]\nsteps = 3")
    assert settings.classifier == replace(Settings().classifier, steps=7)
    assert (settings.classifier.batch_size, settings.denoiser) == (128, Settings().denoiser)
    assert settings.detector.lmd == replace(Settings().detector.lmd, inpainting=InpaintingConfig(steps=3))


def test_an_integer_is_a_valid_float():
    mu = parse("[federation]\nmu = 1").federation.mu
    assert mu == 1.0
    assert isinstance(mu, float)
    levels = parse("[detector.one_step]\nlevels = [0.5]\n").detector.one_step.levels
    assert levels == (0.5,)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_every_run_of_the_repository_can_be_read(path):
    assert len(read(path).labels) >= 2


def test_there_are_runs():
    assert RUNS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels = ['a']", "labels is .*at least two"),
        ("labels = ['a', 'b', 'a']", "none of them twice"),
        ("channels = 2", r"channels is 2; it is 1 \(grey\), 3 \(RGB\) or \"auto\""),
        ("image_size = 30", "image_size 30 must be a multiple of 4"),
        ("[data]\nheld_back = 0", r"^data\.held_back is 0.0; it lies in \(0, 0.5\]$"),
        ("[data]\nheld_back = nan", "held_back is nan"),
        ("[data.partition]\nworkers = 0", "workers is 0; it is 1 or more"),
        ("[models]\nclassifier = [12]", r"widths \(12,\) must be one or more multiples of 8"),
        ("[models]\ndenoiser = []", "widths"),
        ("[models]\nblocks = 0", "blocks is 0"),
        ("[schedule]\nsteps = 1", "steps is 1; it is 2 or more"),
        ("[classifier]\nsteps = -1", "steps is -1"),
        ("[denoiser]\nema = 1", "ema is 1.0"),
        (
            "[detector]\nverdict = ['lmd', 'guess']",
            "verdict is .*name one or more of max-logit, one-step, lmd, mahalanobis",
        ),
        ("[detector]\nverdict = []", "verdict is"),
        ("[detector]\nshrinkage = 1.5", r"shrinkage is 1.5; it lies in \(0, 1\]"),
        ("[detector]\nfeature_stages = [3]", r"feature_stages is \[3\]; the classifier has the stages \[0, 1, 2\]"),
        ("[detector]\nfeature_stages = []", r"feature_stages is \[\]"),
        ("[detector.lmd]\ncells = 29", "cells is 29; images of 28 pixels take 2 to 28"),
        ("[detector.lmd]\nreconstructions = 0", "reconstructions is 0"),
        ("[detector.lmd.inpainting]\nsteps = 1001", "1001 sampling steps"),
        ("[detector.one_step]\nlevels = [1.0]", "levels is"),
        ("[calibration]\nalpha = 1", r"alpha is 1.0; it lies in \(0, 1\)"),
        ("[calibration]\nalpha_uncertain = 0", r"alpha_uncertain is 0.0; it lies in \(0, 1\)"),
        ('[calibration]\nsites = "all"', "sites"),
        ("[calibration]\nimages = 1", "images is 1; it is 2 or more"),
        ("[calibration]\ndescribed = 0", "described is 0; it is 1 or more"),
        ("[federation]\nrounds = 0", "rounds is 0; it is 1 or more"),
        ("[federation]\nmu = -1", "mu is -1.0; it is 0 or more"),
        ("[federation]\nmu = nan", "mu is nan"),
        ("[federation]\nmin_replies = 3", "min_replies is 3; it lies between 1 and min_workers 2"),
        ("[federation]\nwait_seconds = 0", "wait_seconds is 0.0; it is above 0"),
        ("[federation]\nmax_failed_rounds = 0", "max_failed_rounds is 0; it is above 0"),
        ("[federation]\ninitial = 'own'", 'with the merge "rounds" all workers start from common weights'),
        ("[federation]\ninitial = 'own'\nmerge = 'partial'", 'with the merge "partial" all workers start from common'),
        ("[federation]\nstrategy = 'fedsgd'", "there is no strategy 'fedsgd'; there are fedavg, fedprox,"),
        ("[federation]\nserver_rate = 0", "server_rate is 0.0; it is above 0"),
        ("[federation]\ntrim = 0.5", r"trim is 0.5; it lies in \(0, 0.5\)"),
        ("[federation]\nbyzantine = -1", "byzantine is -1; it is 0 or more"),
        ("[federation]\nserver_ema = 1", r"server_ema is 1.0; it lies in \[0, 1\)"),
        ("[federation]\nstrategy = 'median'", "min_replies is 1; median needs 3 updates: set min_replies to 3"),
        ("[federation]\nstrategy = 'trimmed-mean'\ntrim = 0.1", "trimmed-mean needs 10 updates"),
        (
            "[federation]\nstrategy = 'krum'\nbyzantine = 2\nmin_replies = 6\nmin_workers = 6",
            "krum needs 7 updates",
        ),
        (
            "[federation]\nstrategy = 'krum'\ncompression = '8-bit'\nmin_replies = 5\nmin_workers = 5",
            "krum takes whole weights: set compression to",
        ),
        ("[federation]\nmax_norm_ratio = 1", "max_norm_ratio is 1.0; it is above 1, or 0 to refuse no update"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_range(text, message):
    with pytest.raises(SettingsError, match=message):
        parse(text)


@pytest.mark.parametrize("values", [[], "labels", None, 3])
def test_what_is_no_table_is_refused(values):
    with pytest.raises(SettingsError, match="settings are a table of keys and values"):
        from_mapping(values)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"there is no settings file .*absent\.toml"):
        read(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"labels = [", "is no TOML file: Invalid value"),
        (b"\xff", "is no TOML file: 'utf-8' codec can't decode"),
        (b"a = 1\na = 2", r"is no TOML file: Cannot overwrite a value"),
        (b"seed = " + b"9" * 5000, "is no TOML file: "),
        (b"labels = " + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path, content, reason):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=rf"run\.toml:? .*{reason}"):
        read(tmp_path / "run.toml")


def test_a_file_with_a_byte_order_mark_can_be_read(tmp_path):
    (tmp_path / "run.toml").write_bytes(b"\xef\xbb\xbfseed = 3")
    assert read(tmp_path / "run.toml").seed == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# a run\nseed = 'x'", 'run.toml, line 2: seed is "x"; it must be a whole number'),
        (
            "[data]\n\n[ data . partition ]\nkind = 3",
            'run.toml, line 4: data.partition.kind is 3; it must be "none", "labels", "iid" or "dir',
        ),
        ("[data]\npartition.seed = 1.5", "run.toml, line 2: data.partition.seed is 1.5;"),
        ("data = { held_back = 2 }", "run.toml, line 1: data.held_back is 2.0;"),
        ("\n[extra]\na = 1", "run.toml, line 2: extra: there is no such key;"),
        ("[federation]\nrounds = 0", "run.toml, line 2: federation.rounds is 0; it is 1 or more"),
        ("labels = '''\nseed = 1'''\nseed = 'x'", "run.toml: labels is "),
        ("[federation]\nstrategy = 'median'", "run.toml: federation.min_replies is 1; median needs 3"),
    ],
)
def test_the_file_and_the_line_are_named_beside_the_key(tmp_path, text, message):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(SettingsError) as raised:
        read(tmp_path / "run.toml")
    assert str(raised.value).startswith(f"{tmp_path}/{message}")


def test_a_folder_is_no_settings_file(tmp_path):
    with pytest.raises(SettingsError, match=f"{tmp_path.name} cannot be read: Is a directory"):
        read(tmp_path)


def test_the_networks_take_their_shape_from_the_run():
    assert (OTHER.networks.classifier.classes, OTHER.networks.denoiser.classes) == (2, 2)
    assert (OTHER.networks.classifier.channels, OTHER.networks.denoiser.image_size) == (3, 32)
    assert (OTHER.networks.classifier.widths, OTHER.networks.denoiser.widths) == ((8, 16), (16, 24))
    assert OTHER.with_labels(("a", "b", "c")).networks.classifier.classes == 3
    assert math.isclose(OTHER.with_labels(("a", "b")).data.held_back, 0.25)


def test_the_papers_setting_is_a_preset_and_its_keys_can_be_changed():
    chosen = from_mapping({"detector": {"lmd": {"preset": "paper", "distance": "mse"}}}).detector.lmd
    assert chosen == replace(PAPER, distance="mse")
    assert (chosen.mask, chosen.cells, chosen.reconstructions, chosen.inpainting.steps, chosen.condition) == (
        "alternating-checkerboard", 8, 10, 1000, "none",
    )  # fmt: skip
    assert from_mapping({"detector": {"lmd": {"preset": "fast"}}}) == Settings()
    with pytest.raises(SettingsError, match=r"detector.lmd.preset is 'slow'; there are paper, fast"):
        from_mapping({"detector": {"lmd": {"preset": "slow"}}})
    with pytest.raises(SettingsError, match=r"detector.lmd.preset is \[\]; there are paper, fast"):
        from_mapping({"detector": {"lmd": {"preset": []}}})
