"""The pages that docs/generate.py writes from the code."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedlmd.settings import Settings, to_mapping

PROGRAM = Path(__file__).parents[2] / "docs" / "generate.py"


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(generate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    generate.main(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}


def test_every_setting_has_a_line_with_its_meaning_under_its_table(pages):
    def check(path, mapping):
        heading = f"## `[{path}]`" if path else "## The top of the file"
        section = pages["settings"].partition(f"{heading}\n")[2].partition("\n## ")[0]
        for key, value in mapping.items():
            if isinstance(value, dict):
                check(f"{path}.{key}".lstrip("."), value)
            else:
                (line,) = [line for line in section.splitlines() if line.startswith(f"| `{key}` |")]
                assert all(cell.strip() for cell in line.strip("|").split(" | "))

    check("", to_mapping(Settings()))


def test_a_setting_without_a_meaning_is_an_error(generate):
    @dataclass
    class Config:
        """Some settings.

        Args:
            one: is described.
        """

        one: int = 1
        two: int = 2

    with pytest.raises(KeyError, match="Config does not describe 'two'"):
        generate.arguments(Config())


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (0.5, "0.5"), ("a", '"a"'), (("a", "b"), '["a", "b"]'), ((("a",), ()), '[["a"], []]')],
)
def test_a_default_is_written_as_toml_has_it(generate, value, text):
    assert generate.toml(value) == text


def test_the_requests_and_the_fields_of_their_bodies_are_listed(pages):
    for request in ("POST /infer", "POST /train-worker-on-labels-list", "GET /v1/runs/{run}/events", "GET /metrics"):
        assert f"### `{request}`\n" in pages["rest"]
    for field in ("p_value", "verdict", "threshold", "labels_list", "image_out"):
        assert f"| `{field}` |" in pages["rest"]


def test_every_command_is_listed_with_its_options_and_variables(pages):
    for command in ("demo", "data export", "train", "infer", "serve", "federate", "simulate", "log", "drift"):
        assert f"## `fedlmd {command}`\n" in pages["commands"]
    assert (
        "| `--superlink` | `127.0.0.1:9092` | `FEDLMD_SUPERLINK` | host:port of Flower's server. |" in pages["commands"]
    )
