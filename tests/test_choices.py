"""Settings: ranges, words, and registries that other packages extend."""

import math
import sys
from types import SimpleNamespace
from typing import Literal

import pytest

from fedlmd.choices import Registry, between, one_of

GROUP = "fedlmd.test-choices"


@pytest.mark.parametrize(
    ("value", "low", "high", "options"),
    [
        (0, 0, 1, {}),
        (1, 0, 1, {}),
        (0.5, 0, 1, {"open_low": True, "open_high": True}),
        (1, 0, 1, {"open_low": True}),
        (0, 0, 1, {"open_high": True}),
        (-math.inf, -math.inf, 0, {}),
        (1e308, 0, math.inf, {}),
        (0, 0, math.inf, {}),
        (1e-300, 0, math.inf, {"open_low": True}),
    ],
)
def test_a_value_in_the_range_passes(value, low, high, options):
    between(SimpleNamespace(rate=value), low, high, "rate", **options)


@pytest.mark.parametrize(
    ("value", "low", "high", "options", "message"),
    [
        (-0.1, 0, 1, {}, "rate is -0.1; it lies in [0, 1]"),
        (1.1, 0, 1, {}, "rate is 1.1; it lies in [0, 1]"),
        (0, 0, 1, {"open_low": True}, "rate is 0; it lies in (0, 1]"),
        (1, 0, 1, {"open_high": True}, "rate is 1; it lies in [0, 1)"),
        (1, 0, 1, {"open_low": True, "open_high": True}, "rate is 1; it lies in (0, 1)"),
        (-1, 0, math.inf, {}, "rate is -1; it is 0 or more"),
        (0, 0, math.inf, {"open_low": True}, "rate is 0; it is above 0"),
        (math.inf, 0, math.inf, {}, "rate is inf; it is 0 or more"),
        (math.inf, 0, 1, {}, "rate is inf; it lies in [0, 1]"),
        (math.nan, 0, 1, {}, "rate is nan; it lies in [0, 1]"),
        (math.nan, 0, math.inf, {"open_low": True}, "rate is nan; it is above 0"),
    ],
)
def test_a_value_out_of_the_range_is_named_with_the_range(value, low, high, options, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        between(SimpleNamespace(rate=value), low, high, "rate", **options)
    assert str(caught.value) == message


def test_of_several_fields_the_wrong_one_is_named():
    with pytest.raises(ValueError, match=r"b is 2; it lies in \[0, 1\]"):
        between(SimpleNamespace(a=1, b=2, c=0), 0, 1, "a", "b", "c")


def test_a_word_that_is_none_of_a_literals_is_named_with_them():
    config = SimpleNamespace(kind="linear", other="square")
    one_of(config, Literal["cosine", "linear"], "kind")
    with pytest.raises(ValueError, match="other is 'square'; choose one of cosine, linear"):
        one_of(config, Literal["cosine", "linear"], "kind", "other")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder on the path with a package that registers one choice that loads and two that do not."""
    (tmp_path / "test_choices_plugin.py").write_text("CHOICE = ['made elsewhere']\n")
    info = tmp_path / "test_choices_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: test-choices-plugin\nVersion: 1.0\n")
    lines = [
        "good = test_choices_plugin:CHOICE",
        "broken = no_such_module_here:CHOICE",
        "absent = test_choices_plugin:NOTHING",
        "builtin = test_choices_plugin:CHOICE",
    ]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("test_choices_plugin", None)


def registry():
    return Registry("colour", GROUP, {"builtin": ["made here"]})


def test_without_other_packages_there_are_the_builtin_choices_alone():
    assert registry().names == ("builtin",)
    assert registry()["builtin"] == ["made here"]


@pytest.mark.usefixtures("installed")
def test_an_entry_point_of_an_installed_package_is_listed_and_loads():
    colours = registry()
    assert colours.names == ("builtin", "absent", "broken", "good")
    colours.check("good")
    assert colours["good"] == ["made elsewhere"]


@pytest.mark.usefixtures("installed")
def test_an_entry_point_does_not_replace_a_builtin_choice():
    assert registry()["builtin"] == ["made here"]


@pytest.mark.usefixtures("installed")
def test_an_unknown_name_is_refused_with_those_that_there_are():
    for look_up in (registry().check, registry().__getitem__):
        with pytest.raises(ValueError, match="there is no colour 'blue'; there are builtin, absent, broken, good"):
            look_up("blue")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "broken",
            "no_such_module_here:CHOICE cannot be loaded: No module named 'no_such_module_here'",
        ),
        ("absent", "test_choices_plugin:NOTHING cannot be loaded: module 'test_choices_plugin' has no attribute"),
    ],
)
def test_an_entry_point_that_cannot_be_loaded_is_refused_with_the_reason(name, reason):
    registry().check(name)  # only its use imports it
    with pytest.raises(ValueError, match=f"the colour '{name}' of {reason}"):
        registry()[name]
