import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Label folders with photographs of 40 x 40 in colour, without a part to evaluate on, and a text file."""
    colours = np.random.default_rng(0).integers(0, 256, (10, 40, 40, 3), dtype=np.uint8)
    for number, array in enumerate(colours):
        place = tmp_path / "photos" / ("cat", "dog")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(place)
    (tmp_path / "photos" / "notes.txt").write_text("text")
    return tmp_path / "photos"


def counts_of(result):
    rows = [[cell.strip() for cell in line.split("│")] for line in result.stdout.splitlines() if "│" in line]
    return {row[0]: [number.replace(",", "") for number in row[1:]] for row in rows}


def test_data_is_exported_and_counted(run, tmp_path):
    run("data", "export", "mnist", "digits", "--labels", "2, 3", "--limit", 2)
    assert len(list((tmp_path / "digits").rglob("*.png"))) == 8
    assert counts_of(run("data", "show", "digits")) == {"2": ["2", "2"], "3": ["2", "2"]}


@pytest.mark.usefixtures("photos")
def test_an_exported_image_keeps_its_size_colours_and_pixels(run, tmp_path):
    run("data", "export", "photos", "copies")
    copies = sorted((tmp_path / "copies").rglob("*.png"))
    assert len(copies) == 10
    first, original = (np.asarray(Image.open(path)) for path in (copies[0], tmp_path / "photos/cat/0.png"))
    assert np.array_equal(first, original)


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("asked", "size", "mode", "said"),
    [
        (("--image-size", 20, "--channels", 1), (20, 20), "L", "are read as grey"),
        (("--image-size", 20), (20, 20), "RGB", ""),
        (("--channels", 1), (32, 32), "L", "from 40 to 32 pixels"),
    ],
)
def test_with_a_size_or_channels_the_other_is_chosen_by_the_images(run, tmp_path, asked, size, mode, said):
    result = run("data", "export", "photos", "copies", *asked)
    assert said in result.stderr
    with Image.open(next((tmp_path / "copies").rglob("*.png"))) as image:
        assert (image.size, image.mode) == (size, mode)


def test_a_data_set_is_never_exported_into_itself(run, photos):
    failed = run("data", "export", "photos", "photos/copies", status=1)
    assert str(failed.exception) == "photos/copies lies in the data set that is exported; give another folder"
    assert not (photos / "copies").exists()


@pytest.mark.usefixtures("photos")
def test_channels_are_one_or_three(run):
    result = run("data", "export", "photos", "copies", "--channels", 2, status=1)
    assert "1 or 3 channels" in str(result.exception)


def test_an_image_that_cannot_be_exported_is_named(run, photos):
    (photos / "cat" / "bad.png").write_bytes(b"no image")
    assert (
        "warning: photos: 1 passed over: an image that cannot be decoded"
        in run("data", "export", "photos", "copies").stderr
    )


def test_the_counts_need_no_image_to_be_decoded_and_say_what_is_passed_over(run, photos):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no image")
    result = run("data", "show", "photos")
    assert counts_of(result) == {"cat": ["4", "1"], "dog": ["4", "1"]}
    assert "20% of each label are split off" in result.stdout
    assert "1 passed over: no image by its name (.txt) (such as notes.txt)" in result.stdout


def test_shipped_data_are_counted(run):
    counts = counts_of(run("data", "show", "mnist"))
    assert [sum(int(row[split]) for row in counts.values()) for split in (0, 1)] == [60_000, 10_000]
