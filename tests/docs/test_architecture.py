"""docs/architecture.md: its how-tos run as they are printed, and the files and names that it mentions exist."""

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- (file|entry points|run): (.+?) -->\n```\w+\n(.*?)^```", re.MULTILINE | re.DOTALL)
STEP = re.compile(r"^\|[^|]*\| `([\w/]+\.py)` \| (.+) \|$", re.MULTILINE)
NAMES = [(file, name) for file, names in STEP.findall(PAGE) for name in re.findall(r"`([\w.]+)`", names)]


def sections():
    """The blocks of each how-to, by its heading."""
    parts = re.split(r"^### How to (.+)\n", PAGE, flags=re.MULTILINE)[1:]
    return {title: BLOCK.findall(text) for title, text in zip(parts[::2], parts[1::2], strict=True)}


HOW_TOS = sections()


def install(blocks, folder):
    """Files and entry points of a how-to as pip would leave them."""
    for kind, name, text in blocks:
        if kind == "file":
            (folder / name).write_text(text, encoding="utf-8")
        if kind == "entry points":
            info = folder / f"fedlmd_{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fedlmd-{name}\nVersion: 1.0\n")
            groups = tomllib.loads(text)["project"]["entry-points"]
            lines = [
                f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups.items()
            ]
            (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.parametrize("title", HOW_TOS)
def test_a_how_to_runs_as_it_is_printed(title, tmp_path, monkeypatch, capsys):
    blocks = HOW_TOS[title]
    assert {"file", "entry points", "run"} <= {kind for kind, _, _ in blocks}
    packages, place = tmp_path / "packages", tmp_path / "place"
    packages.mkdir()
    place.mkdir()
    install(blocks, packages)
    monkeypatch.syspath_prepend(packages)
    monkeypatch.chdir(place)
    try:
        for kind, name, text in blocks:
            if kind == "run":
                exec(compile(text, f"docs/architecture.md: {name}", "exec"), {"__name__": "how_to"})
    finally:
        for path in packages.glob("*.py"):
            sys.modules.pop(path.stem, None)
    assert capsys.readouterr().out.strip()


def test_there_are_four_how_tos():
    assert list(HOW_TOS) == ["add a detector", "add a strategy", "add a data source", "add a network"]


@pytest.mark.parametrize(("file", "name"), NAMES, ids=lambda part: part)
def test_a_file_holds_the_names_that_the_walks_mention(file, name):
    module = importlib.import_module("fedlmd." + file.removesuffix(".py").replace("/", "."))
    first, *rest = name.split(".")
    holder = getattr(module, first)
    for part in rest:
        # An attribute that the constructor sets is named in the class's source.
        assert hasattr(holder, part) or f"self.{part} = " in Path(module.__file__).read_text(encoding="utf-8")


def test_the_walks_name_most_rooms():
    rooms = {file.partition("/")[0] for file, _ in NAMES}
    assert {"service", "node", "inference", "detection", "calibration", "worker", "training", "federation"} <= rooms


def test_every_room_has_its_line():
    listed = set(re.findall(r"`([\w.]+?)/?`", PAGE.partition("## The layers")[0]))
    there = {path.name for path in (ROOT / "fedlmd").iterdir() if not path.name.startswith("__")}
    assert there - listed == set()
