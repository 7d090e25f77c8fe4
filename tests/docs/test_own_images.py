"""docs/guides/own-images.md: its commands run as they are printed, in their order, in one folder."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fedlmd.node.cluster import free_port
from fedlmd.settings import read
from tests.shapes import SHAPES, shape, write_shapes

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "own-images.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^fedlmd .+$", PAGE, re.MULTILINE)
# The same command without the settings for few steps takes minutes.
LONG = "fedlmd demo --data photos --labels circle,cross,square --unknown triangle"


def run(command, folder):
    """A command of the page, by bash as a reader types it, at free ports; returns what it printed."""
    if command.startswith("fedlmd demo"):
        command += " --ports " + ",".join(str(free_port()) for _ in range(3))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ec", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_the_page_leads_from_a_look_at_a_folder_to_a_verdict():
    verbs = [command.split()[1] for command in COMMANDS]
    assert verbs == ["data", "demo", "demo", "infer", "train", "infer"]
    assert LONG in COMMANDS
    listed = re.findall(r"^  (\w+)/ ", PAGE, re.MULTILINE)
    assert tuple(listed) == SHAPES


@pytest.fixture
def place(tmp_path):
    """A folder with what the page begins with: labelled photos, new ones, and the settings that it shows."""
    write_shapes(tmp_path / "photos", 60)
    (tmp_path / "new").mkdir()
    for kind in SHAPES:
        shape(kind, [9, 9, 9]).save(tmp_path / "new" / f"{kind}.png")
    (toml,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "quick.toml").write_text(toml)
    return tmp_path


def test_its_commands_for_one_machine_alone_run_on_a_folder_of_shapes(place):
    printed = [run(command, place) for command in COMMANDS if "demo" not in command]
    assert len(printed) == 3
    assert "release releases/" in printed[1]
    for name in ("sheet.png", "new.png"):
        with Image.open(place / name) as picture:
            assert picture.width > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_commands_for_a_federation_run_on_a_folder_of_shapes(place):
    printed = {command: run(command, place) for command in COMMANDS if "demo" in command and command != LONG}
    assert len(printed) == 2
    assert "client2 was shown “triangle” (unknown)" in printed["fedlmd demo --settings quick.toml"]
    assert read(place / "demo-output" / "demo.toml").labels == ("circle", "cross", "square")
    with (place / "verdicts.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["file"]).stem for row in rows] == list(SHAPES)
    assert {row["verdict"] for row in rows} <= {"known", "unknown", "uncertain"}
    with Image.open(place / "demo-output" / "demo.png") as picture:
        assert picture.width > 800
