import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fedlmd.data import CheckConfig, DataConfig, DataError, PartitionConfig, check, load, split_held_back, survey
from fedlmd.data.check.check import CheckReport
from fedlmd.progress import drain
from fedlmd.settings import Settings

rng = np.random.default_rng(0)


def noise(height=6, width=6, *channels):
    return rng.integers(0, 256, (height, width, *channels), dtype=np.uint8)


@pytest.fixture
def put(tmp_path):
    """Writes images below a folder, and gives its path."""

    def put(name, pixels=None, **options):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise() if pixels is None else pixels).save(path, **options)
        return path

    return put


@pytest.fixture
def usable(put, tmp_path):
    """A folder of 2 labels with 130 images each, of which 10 of each are held back."""
    for label in ("cat", "dog"):
        for number in range(130):
            put(f"{label}/{number}.png")
    return tmp_path / "set"


def checked(source, config=None, **data):
    config = config or CheckConfig()
    return drain(check(str(source), config=replace(config, data=replace(config.data, **data))))


def of_kind(report, kind):
    return [finding.sentence for finding in report.findings if finding.kind == kind]


def test_a_folder_without_faults_is_usable(usable):
    report = checked(usable)
    assert (report.verdict, report.usable, report.findings) == ("usable", True, ())
    assert (report.images, report.readable, report.divided) == (260, 260, False)
    assert report.labels["cat"] == {"train": 104, "evaluation": 26, "held_back": 10}
    assert (report.held_back, report.needed) == (20, 19)
    assert (report.modes, report.formats) == ({"L": 260}, {".png": 260})
    assert report.sizes == {
        "smallest": [6, 6],
        "median": [6, 6],
        "largest": [6, 6],
        "distinct": 1,
        "not_square": 0.0,
    }
    assert any("20% of each label are split off" in note for note in report.notes)


def test_the_counts_are_those_of_a_run(usable):
    report = checked(usable, held_back=0.25)
    training = load(str(usable), "train")
    kept, held_back = split_held_back(training, 0.25, seed=0)
    assert report.held_back == len(held_back)
    assert sum(counts["train"] for counts in report.labels.values()) == len(kept) + len(held_back)
    assert sum(counts["evaluation"] for counts in report.labels.values()) == len(load(str(usable), "eval"))


def test_sizes_modes_and_formats_are_counted(usable, put):
    put("cat/wide.jpg", noise(4, 9, 3))
    put("cat/deep.png", noise().astype(np.uint16) * 100)
    put("dog/clear.png", noise(20, 20, 4))
    report = checked(usable)
    assert report.modes == {"L": 260, "RGB": 1, "uint16": 1, "RGBA": 1}
    assert report.formats == {".png": 262, ".jpg": 1}
    assert report.sizes["largest"] == [20, 20]
    assert report.sizes["distinct"] == 3
    assert report.sizes["not_square"] == pytest.approx(1 / 263)


def test_an_archive_has_no_formats_of_files(tmp_path):
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (300, 5, 5), dtype=np.uint8), y=np.arange(300) % 2)
    assert checked(tmp_path / "x.npz").formats == {}


def test_too_few_images_to_calibrate_with_are_not_usable_and_a_larger_alpha_mends_it(usable):
    report = checked(usable, CheckConfig(alpha=0.01))
    assert not report.usable
    assert report.needed == 99
    assert report.verdict.startswith("not usable: there are 20 images to calibrate with, and a calibration.alpha of ")
    assert checked(usable, CheckConfig(alpha=0.01), held_back=0.5).usable


def test_at_most_as_many_images_as_are_scored_count_for_calibration(usable):
    assert "at most 5 at each worker" in checked(usable, CheckConfig(images=5)).verdict


def test_one_label_is_not_usable(put, tmp_path):
    for number in range(250):
        put(f"cat/{number}.png")
    assert checked(tmp_path / "set").verdict == "not usable: it has 1 label with images to train on ('cat'); give two"


def test_a_source_of_damaged_images_alone_is_not_usable_and_gets_no_sheet(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "set" / label).mkdir(parents=True)
        (tmp_path / "set" / label / "1.png").write_bytes(b"no image")
    report = checked(tmp_path / "set", CheckConfig(sheet=tmp_path / "sheet.png"))
    assert report.verdict == "not usable: none of the 2 images can be decoded"
    assert report.sheet is None
    assert not (tmp_path / "sheet.png").exists()


def test_a_part_with_too_few_images_to_evaluate_on_is_not_usable(put, tmp_path):
    for number in range(120):
        put(f"train/{'cat' if number % 2 else 'dog'}/{number}.png")
    put("test/cat/1.png")
    report = checked(tmp_path / "set", held_back=0.5)
    assert report.divided
    [sentence] = report.sentences("error")
    assert sentence.startswith("there is 1 image to evaluate on, at least 2 are needed")


def test_values_that_are_no_numbers_are_damage_as_they_are_for_a_run(tmp_path):
    images = rng.random((300, 5, 5))
    images[7, 2, 2] = np.nan
    np.savez(tmp_path / "x.npz", x=images, y=np.arange(300) % 2)
    report = checked(tmp_path / "x.npz", CheckConfig(sheet=tmp_path / "sheet.png"))
    assert report.damaged[0]["count"] == 1
    assert report.readable == 299
    assert len(load(str(tmp_path / "x.npz"), "all")) == 299


def test_a_source_that_workers_divide_is_said_to_be_counted_whole(usable):
    report = checked(usable, partition=PartitionConfig("iid", workers=3))
    assert any("among 3 workers" in note for note in report.notes)


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no data"):
        checked(tmp_path / "nothing")


def test_damaged_and_passed_over_files_are_warnings_and_errors_of_a_strict_run(usable):
    (usable / "cat" / "cut.png").write_bytes((usable / "cat" / "1.png").read_bytes()[:60])
    (usable / "cat" / "notes.txt").write_text("notes")
    report = checked(usable)
    assert report.verdict == "usable, with 2 warnings"
    assert [entry["count"] for entry in (*report.passed_over, *report.damaged)] == [1, 1]
    assert report.passed_over[0]["example"] == "cat/notes.txt"
    assert report.damaged[0]["example"] == str(usable / "cat" / "cut.png")
    assert "damaged" in report.damaged[0]["reason"]
    strict = checked(usable, strict=True)
    assert not strict.usable
    assert len(strict.sentences("error")) == 2


@pytest.mark.parametrize("strict", [False, True])
def test_files_of_the_system_are_no_warning_and_do_not_stop_a_strict_run(usable, strict):
    (usable / ".DS_Store").write_bytes(b"x")
    report = checked(usable, strict=strict)
    assert report.verdict == "usable"
    assert report.passed_over[0]["count"] == 1
    load(str(usable), "train", config=DataConfig(strict=strict))


def test_copies_in_both_parts_are_a_leak_whatever_their_format(put, tmp_path):
    for number in range(240):
        put(f"train/{'cat' if number % 2 else 'dog'}/{number}.png")
    for number in range(20):
        put(f"test/{'cat' if number % 2 else 'dog'}/{number}.png")
    pixels = noise()
    first, second = put("train/cat/same.png", pixels), put("test/cat/copy.bmp", pixels)
    report = checked(tmp_path / "set")
    assert (report.copies["leaked"], report.copies["repeated"], report.copies["contradictory"]) == (1, 0, 0)
    assert report.copies["leaked_examples"] == [[str(first), str(second)]]
    [sentence] = of_kind(report, "leak")
    assert sentence.startswith("1 image to evaluate on is among those to train on (such as ")


def test_copies_of_an_undivided_source_leak_where_the_part_that_is_split_off_has_them(usable, put):
    pixels = noise()
    for number in range(40):
        put(f"cat/same {number}.png", pixels)
    report = checked(usable)
    evaluated = load(str(usable), "eval")
    cat = evaluated.pixels[evaluated.labels == 0].flatten(1)
    most = max(int((cat == image).all(1).sum()) for image in cat)
    assert most > 1
    assert report.copies["leaked"] == most
    assert report.copies["repeated"] == 38


def test_one_image_under_two_labels_is_a_contradiction_and_an_error_of_a_strict_run(usable, put):
    pixels = noise()
    put("cat/x.png", pixels)
    put("dog/y.png", pixels)
    [sentence] = of_kind(checked(usable), "contradiction")
    assert "x.png, 'cat' and " in sentence
    assert "y.png, 'dog'" in sentence
    assert not checked(usable, strict=True).usable


def test_nearly_blank_images_are_counted_with_an_example(usable, put):
    path = put("cat/blank.png", np.full((6, 6), 77, dtype=np.uint8))
    report = checked(usable)
    assert report.blank == {"count": 1, "examples": [str(path)]}
    assert of_kind(report, "blank") == [f"1 image is nearly of one colour (such as {path})"]


def test_small_labels_are_named(usable, put):
    put("hen/1.png")
    for number in range(4):
        put(f"owl/{number}.png")
    report = checked(usable)
    assert of_kind(report, "labels") == ["one image to train on of 'hen': add images"]
    assert of_kind(report, "calibration") == [
        "no image is held back for calibration of 'hen', 'owl': add images, or raise data.held_back, now 0.1"
    ]
    assert of_kind(report, "evaluation") == ["no image to evaluate on of 'hen': its accuracy is not seen"]


def test_many_small_labels_are_counted(usable, put):
    for label in range(9):
        put(f"{label}/1.png")
    [sentence] = of_kind(checked(usable), "labels")
    assert sentence == "one image to train on of '0', '1', '2', '3', '4' and 4 others: add images"


def test_a_label_of_the_evaluation_part_alone_is_named(put, tmp_path):
    for number in range(240):
        put(f"train/{'cat' if number % 2 else 'dog'}/{number}.png")
    for label in ("cat", "dog", "hen"):
        for number in range(3):
            put(f"test/{label}/{number}.png")
    assert "no image to train on of 'hen': add some, or leave the labels out" in of_kind(
        checked(tmp_path / "set"), "labels"
    )


def test_labels_that_look_alike_are_a_warning_and_said_once(usable, put):
    for number in range(20):
        put(f"Cat/{number}.png")
    report = checked(usable)
    [sentence] = of_kind(report, "labels")
    assert "'Cat' and 'cat' look alike" in sentence
    assert not any("look alike" in note for note in report.notes)


def test_only_the_labels_of_a_run_count(usable, put):
    for number in range(100):
        put(f"hen/{number}.png")
    report = checked(usable, CheckConfig(labels=("cat", "hen", "owl")))
    assert report.held_back == report.labels["cat"]["held_back"] + report.labels["hen"]["held_back"]
    assert of_kind(report, "labels")[0].startswith("no image to train on of 'owl': training on this source alone is")
    other = checked(usable, CheckConfig(labels=("owl", "fox")))
    assert other.verdict.startswith("not usable: it has no image to train on of any label of the run, 'owl', 'fox'; ")


def test_an_evaluation_part_of_another_device_is_a_warning(put, tmp_path):
    for number in range(300):
        put(f"train/{'cat' if number % 2 else 'dog'}/{number}.png", noise(12, 12))
        put(f"test/{'cat' if number % 2 else 'dog'}/{number}.png", noise(12, 12) // 2 + 90)
    report = checked(tmp_path / "set")
    [sentence] = of_kind(report, "comparison")
    assert "another device, another hand?" in sentence
    assert report.verdict == "usable, with 1 warning"
    assert {each.name for each in report.comparison if each.differs} >= {"brightness", "contrast"}


def test_parts_that_are_split_off_at_random_are_not_compared(usable):
    assert checked(usable).comparison == ()


def test_the_rules_are_those_that_a_run_chooses(usable, put):
    put("cat/wide.png", noise(40, 90, 3))
    settings = Settings()
    report = checked(usable, CheckConfig(choose=settings.choose))
    resolved, notes = settings.resolved([survey(str(usable)).facts])
    assert report.rules["size"] == resolved.image_size
    assert report.rules["channels"] == resolved.channels
    assert set(notes) <= set(report.notes)


def test_the_report_is_json_of_finite_numbers(usable, put):
    put("cat/blank.png", np.zeros((6, 6), dtype=np.uint8))
    text = json.dumps(checked(usable).to_json(), allow_nan=False)
    assert json.loads(text)["verdict"] == "usable, with 1 warning"


def test_progress_is_reported_and_closing_ends_the_work(usable, tmp_path):
    work = check(str(usable), config=CheckConfig(sheet=tmp_path / "sheet.png"))
    first = next(work)
    assert (first.stage, first.done, first.total) == ("images", 32, 260)
    work.close()
    steps = []
    report = drain(check(str(usable), config=CheckConfig(sheet=tmp_path / "sheet.png")), steps.append)
    assert [step.done for step in steps if step.stage == "images"] == [32, 64, 96, 128, 160, 192, 224, 256, 260]
    assert [step.done for step in steps if step.stage == "sheet"] == [1, 2]
    assert isinstance(report, CheckReport)
    assert report.sheet == str(tmp_path / "sheet.png")


def test_the_configuration_of_a_check_is_that_of_a_run_by_default():
    config, settings = CheckConfig(), Settings()
    assert (config.data, config.alpha, config.images) == (
        DataConfig(),
        settings.calibration.alpha,
        settings.calibration.images,
    )
