import numpy as np
import pytest

from fedlmd.cli.demo.data import DemoError, Request, as_file, refuse_few, subject_of
from fedlmd.cli.demo.steps import Note
from fedlmd.data import DataError, Facts, Survey, load
from fedlmd.data.formats import open_image
from fedlmd.settings import read
from tests.shapes import write_shapes


def prepared(request, folder, workers=2):
    """The subject of a request, and the sentences on it."""
    sentences, steps = [], subject_of(request, folder / "out", workers)
    while True:
        try:
            sentences.append(next(steps))
        except StopIteration as end:
            assert all(isinstance(step, Note) for step in sentences)
            return end.value, [step.text for step in sentences]


@pytest.fixture
def shapes(tmp_path):
    return write_shapes(tmp_path / "shapes", 100)


def test_without_other_images_the_demo_learns_five_digits_and_says_nothing(tmp_path):
    subject, sentences = prepared(Request(), tmp_path)
    assert sentences == []
    assert (subject.source, subject.labels, subject.unknown) == ("mnist", tuple("01234"), tuple("56789"))
    assert (subject.root, subject.title("3", known=True)) == (None, "a digit of a known class")
    known, unknown = subject.test_images()
    assert (known.pixels == load("mnist", "eval", labels=list("01234")).pixels).all()
    assert (len(known), len(unknown)) == (5139, 4861)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_described_and_its_settings_are_written(shapes, tmp_path):
    subject, sentences = prepared(Request(data=str(shapes)), tmp_path)
    text = "\n".join(sentences)
    assert "400 images of 4 labels: circle (100), cross (100), square (100), triangle (100)" in sentences[0]
    assert "the workers learn circle, cross, square; no worker is shown triangle, the last third of the labels" in text
    assert "client1 has 120 images of circle, cross; client2 has 120 images of circle, square" in text
    assert "1,200 steps of 64 images (classifier) and 600 steps of 64 images (denoiser) in 6 rounds" in text
    settings = read(tmp_path / "out" / "demo.toml")
    assert settings.is_resolved
    assert (settings.labels, settings.image_size, settings.channels) == (("circle", "cross", "square"), 24, 3)
    assert (settings.data.source, subject.root) == (str(shapes), tmp_path)
    assert (settings.classifier.steps, settings.calibration.images) == (1200, 400)


def test_a_link_to_a_folder_is_written_as_the_folder_that_it_leads_to(shapes, tmp_path):
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(shapes)
    subject, _ = prepared(Request(data=str(link)), tmp_path)
    assert (subject.source, subject.root) == (str(shapes), tmp_path)


def test_the_users_settings_are_the_base_and_their_labels_the_default(shapes, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'labels = ["square", "circle"]\nimage_size = 16\n[data]\nheld_back = 0.3\n[federation]\nrounds = 3\n'
    )
    subject, _ = prepared(Request(settings=file, data=str(shapes)), tmp_path)
    assert (subject.labels, subject.unknown) == (("square", "circle"), ("cross", "triangle"))
    settings = read(subject.settings)
    assert (settings.image_size, settings.data.held_back, settings.federation.rounds) == (16, 0.3, 3)
    assert (settings.data.partition.kind, settings.data.partition.workers) == ("iid", 2)


def test_the_settings_that_were_written_are_settings_to_go_on_with(shapes, tmp_path):
    first, _ = prepared(Request(data=str(shapes), unknown="cross"), tmp_path)
    again, _ = prepared(Request(settings=first.settings), tmp_path)
    assert (again.labels, again.unknown, again.source) == (first.labels, first.unknown, first.source)
    assert read(again.settings) == read(first.settings)


def test_the_digits_can_be_divided_among_three_workers(tmp_path):
    subject, sentences = prepared(Request(data="mnist", labels="0,1,2", unknown="9"), tmp_path, workers=3)
    assert (subject.source, subject.root) == ("mnist", None)
    assert read(subject.settings).data.partition.lists == (("0", "1"), ("0", "2"), ("1", "2"))
    assert any("client3 has" in sentence for sentence in sentences)


def test_the_shipped_signs_are_a_subject_with_six_labels_to_learn(tmp_path):
    subject, sentences = prepared(Request(data="sign-digits"), tmp_path)
    text = "\n".join(sentences)
    assert sentences[0].startswith("sign-digits: 2,062 images of 10 labels: 0 (205), 1 (206)")
    assert "learn 0, 1, 2, 3, 4, 5; no worker is shown 6, 7, 8, 9 (--labels and --unknown choose others)" in text
    assert (subject.labels, subject.unknown) == (tuple("012345"), tuple("6789"))
    assert (subject.source, subject.root) == ("sign-digits", None)
    settings = read(subject.settings)
    assert settings.data.partition.lists == (tuple("01234"), tuple("01235"))
    assert (settings.is_resolved, settings.channels) == (True, 3)
    label, data = subject.example(known=False, seed=0)
    assert label in "6789"
    assert open_image(data).size == (100, 100)


def test_the_shipped_signs_are_called_signs(tmp_path):
    subject, _ = prepared(Request(data="sign-digits", labels="0,1", unknown="9"), tmp_path)
    assert (subject.labels, subject.unknown) == (("0", "1"), ("9",))
    assert subject.title("1", known=True) == "a sign of a known class (1)"
    assert subject.title("9", known=False) == "a sign of a class that no worker has seen (9)"


def test_test_images_are_of_the_right_labels_and_were_not_trained_on(shapes, tmp_path):
    subject, _ = prepared(Request(data=str(shapes)), tmp_path)
    known, unknown = subject.test_images()
    assert (known.names, len(known)) == (("circle", "cross", "square"), 60)
    assert (unknown.names, len(unknown), tuple(unknown.pixels.shape[1:])) == (("triangle",), 20, (3, 24, 24))


def test_an_example_is_a_file_as_it_lies_in_the_folder(shapes, tmp_path):
    subject, _ = prepared(Request(data=str(shapes)), tmp_path)
    for seed in range(3):
        label, data = subject.example(known=True, seed=seed)
        assert data in [file.read_bytes() for file in (shapes / label).iterdir()]
        assert label in subject.labels
        assert subject.example(known=False, seed=seed)[0] == "triangle"


def test_an_example_that_cannot_be_decoded_is_passed_over(shapes, tmp_path):
    subject, _ = prepared(Request(data=str(shapes)), tmp_path)
    for file in (shapes / "triangle").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="has no test image that can be decoded"):
        subject.example(known=False, seed=0)


def test_words_name_the_label_of_an_image_that_is_no_digit(shapes, tmp_path):
    subject, _ = prepared(Request(data=str(shapes)), tmp_path)
    assert subject.title("cross", known=True) == "an image of a known class (cross)"
    assert subject.title("triangle", known=False) == "an image of a class that no worker has seen (triangle)"


@pytest.mark.parametrize(
    ("array", "form"),
    [
        (np.arange(12, dtype=np.uint8).reshape(3, 4), "PNG"),
        (np.arange(36, dtype=np.uint8).reshape(3, 4, 3), "PNG"),
        (np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000, "PNG"),
        (np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "TIFF"),
    ],
)
def test_an_array_is_sent_as_a_file_with_the_same_values(array, form):
    data = as_file(array)
    assert data.startswith(b"\x89PNG" if form == "PNG" else (b"II*", b"MM\x00*"))
    assert np.array_equal(np.asarray(open_image(data)), array)


def test_deep_colours_cannot_be_sent():
    with pytest.raises(DataError, match="more than 8 bits in several channels"):
        as_file(np.zeros((3, 4, 3), dtype=np.uint16))


def test_a_label_without_images_to_evaluate_on_is_refused():
    counts = {"a": {"train": 9, "eval": 2}, "b": {"train": 1, "eval": 0}, "c": {"train": 0, "eval": 0}}
    survey = Survey("photos", counts, Facts())
    refuse_few(survey, ["a"], [])
    for known, unknown in ((["a", "b"], []), (["a"], ["b"])):
        with pytest.raises(DemoError, match="label 'b' has 1 images to train on and 0 to evaluate on"):
            refuse_few(survey, known, unknown)


def test_too_few_images_for_one_worker_are_refused(tmp_path):
    folder = write_shapes(tmp_path / "few", 6)
    with pytest.raises(DemoError, match=r"client1 would have 0 images to calibrate with and \d to evaluate on"):
        prepared(Request(data=str(folder)), tmp_path)
