import tomllib

import pytest

from fedlmd.cli.demo.toml import settings_text, toml_text, with_source
from fedlmd.data import Facts
from fedlmd.settings import from_mapping


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"seed": 3, "labels": ['a "b"', "c\\d", "é\x7f\t", "🦊"]},
        {"a": {"b": {"c": 1e-05, "d": True}, "e": [["x"], []]}, "f": 0.5},
        {"a": {"b": {"c": 1}}},
    ],
)
def test_tables_are_written_as_toml_reads_them(mapping):
    assert tomllib.loads(toml_text(mapping)) == mapping


def test_settings_get_the_source_its_labels_and_who_has_which():
    mapping = with_source({"seed": 3}, "/photos", ["a", "b", "c"], 2, keep=False)
    divided = {"kind": "labels", "workers": 2, "lists": [["a", "b"], ["a", "c"]]}
    assert mapping == {
        "seed": 3,
        "labels": ["a", "b", "c"],
        "data": {"source": "/photos", "partition": divided},
    }


def test_two_labels_are_divided_at_random():
    assert with_source({}, "/photos", ["a", "b"], 3, keep=False)["data"]["partition"] == {"kind": "iid", "workers": 3}


def test_a_partition_of_the_users_settings_is_kept():
    own = {"data": {"partition": {"kind": "dirichlet", "workers": 2, "alpha": 0.1}}}
    assert with_source(own, "/photos", ["a", "b"], 2, keep=True)["data"]["partition"] == own["data"]["partition"]
    assert with_source({"data": {"held_back": 0.2}}, "/photos", ["a", "b"], 2, keep=True)["data"] == {
        "held_back": 0.2,
        "source": "/photos",
        "partition": {"kind": "iid", "workers": 2},
    }


@pytest.mark.parametrize("side", [20.0, 90.0])
@pytest.mark.parametrize("labels", [["a", "b"], ["a", "b", "c"]])
def test_the_text_of_settings_is_read_back_as_the_same_settings(labels, side):
    base = {
        "seed": 3,
        "images": {"fit": "stretch"},
        "data": {"held_back": 0.2, "partition": {"seed": 5, "lists": [["0"], ["1"]], "kind": "labels", "workers": 2}},
        "detector": {"lmd": {"reconstructions": 2, "inpainting": {"steps": 3}}},
    }
    facts = Facts(images=9, side=side, colour=1.0, deep=0.5, low=-3.0, high=8.0)
    mapping = with_source(base, "/my photos", labels, 2, keep=False)
    settings, _ = from_mapping(mapping).resolved([facts])
    text = settings_text(mapping, settings, "my\nphotos")
    assert from_mapping(tomllib.loads(text)) == settings
    assert settings.is_resolved
    assert "[detector.lmd.inpainting]\nsteps = 3\n" in text
    assert ("[denoiser]" in text) == settings.has_latents
