import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fedlmd.cli import app

rng = np.random.default_rng(0)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(130):
            pixels = rng.integers(0, 256, (6, 6), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / label / f"{number}.png")

    def run(*arguments):
        return CliRunner().invoke(app, ["data", "check", *map(str, arguments)])

    return run


def test_a_usable_folder_gets_a_verdict_and_a_contact_sheet(run, tmp_path):
    result = run("set")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1].split() == ["verdict", "usable"]
    assert lines[-2].split() == ["sheet", "data-check.png"]
    assert any(line.split() == ["images", "260"] for line in lines)
    assert "cat" in result.stdout
    with Image.open(tmp_path / "data-check.png") as sheet:
        assert sheet.format == "PNG"


def test_the_sheet_has_another_name_or_is_not_drawn(run, tmp_path):
    run("set", "--sheet", "pictures/one.png")
    assert (tmp_path / "pictures" / "one.png").exists()
    assert "sheet" not in run("set", "--no-sheet").stdout
    assert not (tmp_path / "data-check.png").exists()


def test_the_sheet_never_lies_in_the_data_set(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "set")
    assert run(".").exit_code == 0
    assert (tmp_path / "data-check.png").exists()
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["cat", "dog"]
    result = run(".", "--sheet", "cat/sheet.png")
    assert result.exit_code == 1
    assert "cat/sheet.png lies in the data set" in str(result.exception)


def test_standard_output_has_nothing_but_json_when_it_is_asked_for(run):
    result = run("set", "--json", "-", "--no-sheet")
    report = json.loads(result.stdout)
    assert report["verdict"] == "usable"
    assert report["labels"]["dog"]["train"] == 104
    assert "verdict" in result.stderr


def test_a_folder_that_cannot_be_trained_on_gives_status_1(run):
    result = run("set", "--alpha", 0.01, "--no-sheet")
    assert result.exit_code == 1
    assert "not usable: there are 20 images to calibrate with" in result.stdout
    assert run("set", "--alpha", 0.01, "--held-back", 0.5, "--no-sheet").exit_code == 0


def test_strict_gives_status_1_for_a_file_that_is_passed_over(run, tmp_path):
    (tmp_path / "set" / "cat" / "notes.txt").write_text("notes")
    assert run("set", "--no-sheet").exit_code == 0
    result = run("set", "--no-sheet", "--strict")
    assert result.exit_code == 1
    assert "not usable: 1 passed over" in result.stdout


def test_a_settings_file_gives_labels_rules_and_shares(run, tmp_path):
    (tmp_path / "run.toml").write_text(
        'labels = ["cat", "dog"]\nimage_size = 20\nchannels = 3\n[data]\nheld_back = 0.5\n[calibration]\nalpha = 0.02\n'
    )
    result = run("set", "--settings", "run.toml", "--json", "report.json", "--no-sheet")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["rules"]["size"], report["rules"]["channels"]) == (20, 3)
    assert (report["held_back"], report["needed"]) == (104, 49)


def test_names_in_the_report_change_nothing_else(run, tmp_path):
    (tmp_path / "set" / "[red]x").mkdir()
    Image.fromarray(np.zeros((6, 6), dtype=np.uint8)).save(tmp_path / "set" / "[red]x" / "[b].png")
    result = run("set", "--no-sheet")
    assert "[red]x" in result.stdout
    assert "[b].png" in result.stdout


def test_a_missing_folder_is_one_sentence(run):
    result = run("nothing", "--no-sheet")
    assert result.exit_code == 1
    assert "there is no data" in str(result.exception)
