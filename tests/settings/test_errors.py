"""A wrong setting: the message has its place, its value and what is allowed there."""

import json
import math
from dataclasses import fields, is_dataclass
from datetime import date

import pytest

from fedlmd.settings import Settings, SettingsError, from_mapping
from fedlmd.settings.errors import in_words, kinds, line_of, places, shown, suggestion


def tables(config, place=()):
    """The place of each table of settings, and the names of its keys."""
    yield place, [field.name for field in fields(config)]
    for field in fields(config):
        if is_dataclass(getattr(config, field.name)):
            yield from tables(getattr(config, field.name), (*place, field.name))


TABLES = dict(tables(Settings()))
KEYS = [(*place, name) for place, names in TABLES.items() for name in names]


def nested(place, value):
    """Tables in which one key has a value."""
    for name in reversed(place):
        value = {name: value}
    return value


def refusal(values):
    with pytest.raises(SettingsError) as raised:
        from_mapping(values)
    return raised.value


@pytest.mark.parametrize("place", TABLES, ids=".".join)
def test_an_unknown_key_of_each_table_is_named_with_the_keys_that_there_are(place):
    error = refusal(nested((*place, "zebra"), 1))
    dotted = ".".join((*place, "zebra"))
    assert error.place == dotted
    has = f"[{'.'.join(place)}] has " if place else "the top of the file has "
    assert str(error).startswith(f"{dotted}: there is no such key; {has}")
    for name in TABLES[place]:
        assert name in str(error)


@pytest.mark.parametrize("place", KEYS, ids=".".join)
def test_a_value_of_a_wrong_type_is_named_with_its_place_for_each_key(place):
    error = refusal(nested(place, date(2026, 5, 1)))
    dotted = ".".join(place)
    assert error.place == dotted
    assert str(error).startswith(f"{dotted} is 2026-05-01; it must be ")


def test_every_key_is_walked():
    assert {".".join(place) for place in KEYS if place not in TABLES} == set(places(Settings))
    assert ("detector", "lmd", "inpainting", "steps") in KEYS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data": {"partition": {"scheme": "iid"}}},
            "data.partition.scheme: there is no such key; [data.partition] has alpha, kind, lists, seed, workers",
        ),
        (
            {"data": {"partition": {"kinds": "iid"}}},
            "data.partition.kinds: there is no such key; [data.partition] has alpha, kind, lists, seed, workers "
            '(did you mean "kind"?)',
        ),
        ({"rounds": 5}, "(did you mean federation.rounds?)"),
        ({"federation": {"alpha": 0.1}}, "(did you mean data.partition.alpha or calibration.alpha?)"),
        (
            {"detector": {"lmd": {"presets": "fast"}}},
            'preset, reconstructions, seed, [detector.lmd.inpainting] (did you mean "preset"?)',
        ),
        ({"data": {"a.b": 1}}, 'data."a.b": there is no such key'),
        ({"colour": 1, "data": {"sauce": 1}, "extra": {}}, "; also wrong: data.sauce, extra"),
        ({"data": 3, "extra": 1}, "data is 3; it must be a table, and [data] has "),
    ],
)
def test_an_unknown_key_is_answered_with_what_may_have_been_meant(values, message):
    assert message in str(refusal(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"labels": "0123"}, 'labels is "0123"; it must be a list of texts'),
        ({"labels": [0, 1]}, "labels is [0, 1]; it must be a list of texts"),
        ({"seed": "1"}, 'seed is "1"; it must be a whole number'),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"seed": True}, "seed is true; it must be a whole number"),
        ({"seed": None}, "seed is null; it must be a whole number"),
        ({"classifier": 3}, "classifier is 3; it must be a table, and [classifier] has batch_size, "),
        ({"classifier": {"learning_rate": "0.1"}}, 'classifier.learning_rate is "0.1"; it must be a number'),
        ({"classifier": {"low_precision": 1}}, "classifier.low_precision is 1; it must be true or false"),
        ({"federation": {"rounds": "six"}}, 'federation.rounds is "six"; it must be a whole number'),
        ({"federation": {"mu": False}}, "federation.mu is false; it must be a number"),
        ({"federation": {"weighting": "steps"}}, 'federation.weighting is "steps"; it must be "images" or "uniform"'),
        ({"federation": {"strategy_options": 1}}, "federation.strategy_options is 1; it must be a table"),
        ({"models": {"classifier": [8.0]}}, "models.classifier is [8.0]; it must be a list of whole numbers"),
        ({"models": {"classifier": 8}}, "models.classifier is 8; it must be a list of whole numbers"),
        ({"detector": {"one_step": {"levels": ["high"]}}}, 'detector.one_step.levels is ["high"]; it must be a list'),
        ({"image_size": 1.5}, "image_size is 1.5; it must be a whole number or a text in quotes"),
        ({"images": {"window": 3}}, "images.window is 3; it must be a text in quotes or a list of numbers"),
        ({"data": {"source": ["mnist"]}}, 'data.source is ["mnist"]; it must be a text in quotes'),
        ({"data": {"partition": {"lists": ["01"]}}}, 'data.partition.lists is ["01"]; it must be a list of lists of'),
    ],
)
def test_a_wrong_type_is_answered_with_what_is_right(values, message):
    assert str(refusal(values)).startswith(message)


def test_an_integer_beyond_all_floats_is_no_number():
    assert str(refusal({"federation": {"mu": 10**400}})).startswith("federation.mu is 1000")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"held_back": 2}}, "data.held_back is 2.0; it lies in (0, 0.5]"),
        ({"calibration": {"alpha": math.nan}}, "calibration.alpha is nan; it lies in (0, 1)"),
        ({"data": {"partition": {"workers": 0}}}, "data.partition.workers is 0; it is 1 or more"),
        ({"classifier": {"augmentation": {"turn": 90}}}, "classifier.augmentation.turn is 90.0; it lies in [0, 45]"),
        ({"denoiser": {"augmentation": {"turn": 90}}}, "denoiser.augmentation.turn is 90.0; it lies in [0, 45]"),
        ({"detector": {"lmd": {"cells": 29}}}, "detector.lmd.cells is 29; images of 28 pixels take 2 to 28"),
        ({"detector": {"feature_stages": [9]}}, "detector.feature_stages is [9]; the classifier has the stages"),
        ({"detector": {"verdict": []}}, "detector.verdict is []; name one or more of"),
        (
            {"detector": {"calibrated": ["guess", *Settings().detectors.calibrated]}},
            "detector.calibrated: there is no",
        ),
        (
            {"federation": {"strategy": "fedsgd"}},
            "federation.strategy: there is no strategy 'fedsgd'; there are",
        ),
        ({"models": {"denoiser_network": "x"}}, "models.denoiser_network: there is no denoiser 'x'; there are"),
        ({"models": {"views": 3}}, "models.views is 3; it is 1 (upright) or 4 (turned)"),
        ({"models": {"blocks": 0}}, "models.blocks is 0; it is 1 or more"),
        ({"models": {"classifier": [12]}}, "models.classifier: widths (12,) must be one or more multiples of 8"),
        ({"models": {"denoiser": []}}, "models.denoiser: widths () must be one or more multiples of 8"),
        ({"image_size": 30}, "image_size 30 must be a multiple of 4"),
        (
            {"detector": {"lmd": {"inpainting": {"steps": 1001}}}},
            "detector.lmd.inpainting.steps: 1001 sampling steps; the schedule has ",
        ),
        (
            {"federation": {"strategy": "krum", "compression": "8-bit", "min_replies": 5, "min_workers": 5}},
            "[federation]: krum takes whole weights: set compression to ",
        ),
        (
            {"data": {"partition": {"workers": 2, "kind": "labels"}}},
            "[data.partition]: 2 workers need 2 lists",
        ),
        ({"labels": ["a"]}, "labels is ['a']; give at least two"),
        ({"images": {"window": [4095, 0]}}, "images.window is (4095.0, 0.0); it is "),
        ({"images": {"fit": "wide"}}, 'images.fit is "wide"; it must be "auto", "pad", "crop" or "stretch"'),
        ({"channels": "grey"}, "channels is 'grey'; it is 1 (grey), 3 (RGB) or "),
    ],
)
def test_a_value_out_of_range_is_answered_with_its_whole_place(values, message):
    assert str(refusal(values)).startswith(message)


def test_a_setting_of_several_types_takes_each_of_them_and_names_all():
    assert [from_mapping({"image_size": size}).image_size for size in ("auto", 32)] == ["auto", 32]
    windows = [from_mapping({"images": {"window": window}}).images.window for window in ("full", [0, 4095])]
    assert windows == ["full", (0.0, 4095.0)]
    assert in_words(str | tuple[float, ...]) == "a text in quotes or a list of numbers"
    assert in_words(int | None) == "a whole number"


def test_a_long_value_is_shortened_and_what_json_cannot_hold_is_a_text():
    assert shown(["x" * 100]) == '["' + "x" * 58 + "…"
    assert shown([date(2026, 5, 1)]) == '["2026-05-01"]'
    assert json.loads(shown({"a": None})) == {"a": None}


def test_a_key_that_resembles_none_gets_no_suggestion():
    assert suggestion(Settings, Settings, "zebra") == ""
    assert suggestion(Settings, kinds(Settings)["data"], "data.SOURCE") == ' (did you mean "source"?)'


@pytest.mark.parametrize(
    ("text", "place", "line"),
    [
        ("a = 1\nb = 2", "b", 2),
        ("[a]\nb = 1\n[c]\nb = 2", "c.b", 4),
        ("[a]\nb = 1 # c.b = 3\n", "c.b", None),
        ("[[a]]\nb = 1", "a.b", 2),
        ('[a]\n"x y" = 1', 'a."x y"', 2),
        ("a = [\n  1,\n]\nb = 2", "b", 4),
    ],
)
def test_the_line_of_a_key_is_its_own_or_none(text, place, line):
    assert line_of(text, place) == line
