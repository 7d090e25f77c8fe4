import csv
import io
import json
import os
import signal
import subprocess
import sys

import pytest
from PIL import Image

from fedlmd.data import load
from fedlmd.data.images import picture
from fedlmd.release import PRETRAINED_FOLDER, load_release, save_release


@pytest.fixture
def folder(tmp_path):
    """A folder with a known and an unknown digit, one damaged image, and a text file."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for label, name in (("2", "in/2.png"), ("7", "in/deep/10.png")):
        picture(load("mnist", "eval", labels=[label]).pixels[0]).save(tmp_path / name)
    (tmp_path / "in" / "3.png").write_bytes((tmp_path / "in" / "2.png").read_bytes()[:70])
    (tmp_path / "in" / "readme.txt").write_text("text")
    return tmp_path / "in"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def fedlmd(*arguments, cwd, **options):
    """The command as a process of its own."""
    command = [sys.executable, "-m", "fedlmd.cli", *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=120, check=False, **options)


def test_infer_predicts_with_the_shipped_release_and_draws_its_explanation(run, tmp_path, seven):
    result = run("infer", "pretrained", seven, "--picture", "new/seen.png", "--threads", 1)
    heading, line = result.stdout.splitlines()
    assert heading.split() == ["verdict", "class", "score", "p-value", "file"]
    assert line.startswith("unknown    ")
    assert line.endswith("seven.png")
    assert result.stderr == ""
    with Image.open(tmp_path / "new" / "seen.png") as seen:
        assert seen.width > 800


@pytest.mark.usefixtures("folder")
def test_a_folder_is_predicted_to_its_end_and_a_bad_file_is_named(run):
    result = run("infer", "pretrained", "in", "--threads", 1, status=1)
    verdicts = {line.split()[-1]: line.split()[0] for line in result.stdout.splitlines()[1:]}
    assert verdicts == {"in/2.png": "known", "in/deep/10.png": "unknown"}
    assert result.stderr.splitlines() == [
        "1 passed over: no image by its name (.txt) (such as readme.txt)",
        "error: in/3.png: the PNG image is truncated or damaged; send the whole file again",
        "3 files: 1 known, 1 unknown, 1 with an error",
    ]


@pytest.mark.usefixtures("folder")
def test_rows_of_json_and_csv_hold_bad_files_too_in_the_order_of_the_files(run):
    result = run("infer", "pretrained", "in", "none.png", "--format", "jsonl", "--threads", 1, status=1)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["file"] for line in lines] == ["in/2.png", "in/3.png", "in/deep/10.png", "none.png"]
    assert ["error" in line for line in lines] == [False, True, False, True]
    table = rows_of(run("infer", "pretrained", "in", "none.png", "--format", "csv", "--threads", 1, status=1).stdout)
    assert [row["file"] for row in table] == [line["file"] for line in lines]
    assert [row["error"] for row in table] == [line.get("error", "") for line in lines]
    assert [float(row["score"]) for row in table if row["score"]] == pytest.approx(
        [lines[0]["score"], lines[2]["score"]]
    )


@pytest.mark.usefixtures("folder")
def test_the_json_of_all_files_goes_to_a_file_beside_rows_and_alone_to_standard_output(run, tmp_path):
    result = run("infer", "pretrained", "in", "--json", "all.json", "--format", "csv", "--threads", 1, status=1)
    written = json.loads((tmp_path / "all.json").read_text())
    assert list(written) == [row["file"] for row in rows_of(result.stdout)]
    assert set(written["in/3.png"]) == {"error"}
    alone = run("infer", "pretrained", "in", "--json", "-", "--threads", 1, status=1)
    assert json.loads(alone.stdout)["in/2.png"]["verdict"] == "known"
    assert "in/2.png" in alone.stderr


def test_an_image_comes_by_standard_input_and_so_does_a_list_of_files(run, folder):
    data = (folder / "2.png").read_bytes()
    [row] = rows_of(run("infer", "pretrained", "-", "--format", "csv", "--threads", 1, stdin=data).stdout)
    assert (row["file"], row["prediction"], row["verdict"]) == ("-", "2", "known")
    names = b"in/2.png\0in/deep\0"
    listed = run("infer", "pretrained", "--from", "-", "-0", "--format", "csv", "--threads", 1, stdin=names)
    assert [row["file"] for row in rows_of(listed.stdout)] == ["in/2.png", "in/deep/10.png"]


def test_an_empty_standard_input_is_an_error_of_that_image(run):
    result = run("infer", "pretrained", "-", "--threads", 1, stdin=b"", status=1)
    assert result.stderr.startswith("error: -: the image is empty (0 bytes)")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "give either images"),
        (["a.png", "--from", "list"], "give either images"),
        (["a.png", "--null"], "--null says how --from separates paths"),
        (["a.png", "--format", "csv", "--json", "-"], "both write to standard output"),
        (["a.png", "--worker", "north"], "has no calibration of a worker 'north'; it has one for all images"),
        (["--from", os.devnull], "lists no path"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(run, arguments, sentence):
    assert sentence in str(run("infer", "pretrained", *arguments, status=1).exception)


def test_what_decoding_changed_is_said_once_as_counts(run, tmp_path):
    for number in range(3):
        Image.new("RGBA", (28, 28), (200, 0, 0, 99)).save(tmp_path / f"{number}.png")
    result = run("infer", "pretrained", "0.png", "1.png", "2.png", "--threads", 1)
    assert "of 3 images 3 transparent, laid over black; 3 in colour, read as grey" in result.stderr


def test_a_picture_has_the_first_images_alone_and_says_so(run, tmp_path, seven, monkeypatch):
    monkeypatch.setattr("fedlmd.cli.infer.DRAWN", 1)
    result = run("infer", "pretrained", seven, seven, "--picture", "seen.png", "--threads", 1)
    assert "the picture shows the first 1 of 2 images" in result.stderr
    with Image.open(tmp_path / "seen.png") as seen:
        assert seen.height < seen.width


def test_infer_compares_with_the_named_workers_calibration(run, tmp_path, seven):
    shipped = load_release(PRETRAINED_FOLDER)
    calibration = shipped.card["calibration"]
    higher = {
        name: {**sketch, "values": [value + 5 for value in sketch["values"]]}
        for name, sketch in calibration["sketches"].items()
    }
    calibration = {**calibration, "sites": {"low": calibration["sketches"], "high": higher}}
    folder = save_release(tmp_path, {**shipped.card, "calibration": calibration}, shipped.weights)
    low, high = (
        json.loads(run("infer", folder, seven, "--worker", name, "--json", "-", "--threads", 1).stdout)[str(seven)]
        for name in ("low", "high")
    )
    assert low["score"] == pytest.approx(high["score"])
    assert high["threshold"] - low["threshold"] == pytest.approx(5, abs=0.5)


def test_standard_output_holds_rows_alone_and_names_of_any_bytes(folder):
    name = b"in/\xff\x1b[31m.png"
    with open(os.path.join(os.fsencode(folder.parent), name), "wb") as file:
        file.write((folder / "2.png").read_bytes())
    done = fedlmd("infer", "pretrained", "in", "--format", "jsonl", cwd=folder.parent)
    assert done.returncode == 1
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [
        "in/2.png",
        "in/3.png",
        os.fsdecode(name),
        "in/deep/10.png",
    ]
    assert b"\x1b" not in done.stderr


def test_a_reader_that_stops_early_gets_no_error_about_the_pipe(folder):
    shell = (
        f"{sys.executable} -m fedlmd.cli infer pretrained in in in --batch-size 1 --format csv --threads 1 | head -1"
    )
    done = subprocess.run(["sh", "-c", shell], cwd=folder.parent, capture_output=True, timeout=120, check=False)
    assert done.stdout.startswith(b"file,prediction")
    assert b"pipe" not in done.stderr.lower()
    assert b"Traceback" not in done.stderr


def test_an_interruption_leaves_whole_rows_and_says_how_far_it_came(folder):
    names = "\n".join(["in/2.png"] * 20000)
    (folder.parent / "list").write_text(names)
    command = [sys.executable, "-m", "fedlmd.cli", "infer", "pretrained", "--from", "list", "--format", "jsonl"]
    process = subprocess.Popen(
        [*command, "--batch-size", "2", "--threads", "1"],
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert all(json.loads(line)["file"] == "in/2.png" for line in [first, *out.splitlines()])
    assert b"of 20,000 files were answered" in err
    assert b"Traceback" not in err


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_rows_stay_on_standard_output_while_a_terminal_shows_the_bar(folder, form):
    names = "\n".join(["in/2.png"] * 101)
    (folder.parent / "list").write_text(names)
    command = [sys.executable, "-m", "fedlmd.cli", "infer", "pretrained", "--from", "list", "--format", form]
    terminal, its_end = os.openpty()
    with open(folder.parent / "out", "wb") as out:
        process = subprocess.Popen([*command, "--threads", "1"], cwd=folder.parent, stdout=out, stderr=its_end)
        os.close(its_end)
        shown = until_closed(terminal)
    assert process.wait(timeout=60) == 0
    assert b"101/101" in shown
    assert b"in/2.png" not in shown
    rows = (folder.parent / "out").read_bytes()
    assert rows.count(b"in/2.png") == 101
    assert b"\x1b" not in rows


def until_closed(terminal):
    """What a terminal is sent until nothing writes to it any more."""
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # so Linux says that the other end is closed
        pass
    finally:
        os.close(terminal)
    return shown
