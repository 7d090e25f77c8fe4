import threading
import time

import pytest
import torch

from fedlmd.cli.answers import answers, decoded_ahead
from fedlmd.cli.image_files import ImageFile
from fedlmd.data import PixelRules, load, to_unit_range
from fedlmd.data.images import picture
from fedlmd.inference import Predictor
from fedlmd.release import PRETRAINED_FOLDER, load_release


@pytest.fixture(scope="module")
def predictor():
    return Predictor(load_release(PRETRAINED_FOLDER))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Eleven digits, and their files in the same order, with a damaged and a missing one among them."""
    folder, images = tmp_path_factory.mktemp("digits"), load("mnist", "eval").pixels[:11]
    files = []
    for number, pixels in enumerate(images):
        picture(pixels).save(folder / f"{number}.png")
        files.append(ImageFile(str(folder / f"{number}.png")))
    (folder / "damaged.png").write_bytes((folder / "0.png").read_bytes()[:60])
    files.insert(4, ImageFile(str(folder / "damaged.png")))
    files.insert(7, ImageFile("missing.png", "there is no such file"))
    return images, files


def test_predictions_in_batches_are_those_of_the_images_one_by_one(predictor, digits):
    images, files = digits
    single = [predictor.predict(to_unit_range(image[None]))[0] for image in images]
    for batch_size in (1, 4, 64):
        batches = list(answers(predictor, files, batch_size=batch_size, threads=2))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        together = [answer for batch in batches for answer in batch]
        assert [answer.name for answer in together] == [file.name for file in files]
        predictions = [answer.prediction for answer in together if answer.prediction]
        assert [each.prediction for each in predictions] == [each.prediction for each in single]
        assert [each.verdict for each in predictions] == [each.verdict for each in single]
        assert [each.score for each in predictions] == pytest.approx([each.score for each in single], abs=1e-4)


def test_a_bad_file_is_an_answer_with_its_problem_and_the_others_are_predicted(predictor, digits):
    [batch] = answers(predictor, digits[1])
    problems = {answer.name.rpartition("/")[2]: answer.problem for answer in batch if answer.prediction is None}
    assert set(problems) == {"damaged.png", "missing.png"}
    assert "truncated or damaged" in problems["damaged.png"]
    assert sum(answer.prediction is not None for answer in batch) == 11


def test_an_alpha_and_a_score_are_those_that_were_asked_for(predictor, digits):
    [[answer]] = answers(predictor, digits[1][:1], alpha=0.3, detector="one-step")
    assert (answer.prediction.alpha, answer.prediction.detector) == (0.3, "one-step")


def test_files_are_decoded_ahead_but_not_more_than_asked_for(digits):
    taken = []

    def files():
        for file in digits[1]:
            taken.append(file)
            yield file

    decoded = decoded_ahead(files(), PixelRules(), threads=2, ahead=3)
    assert len(taken) == 0
    first = next(decoded)
    assert torch.equal(first.pixels, digits[0][0])
    assert len(taken) == 4
    decoded.close()


def test_no_thread_is_left_when_the_answers_are_no_longer_asked_for(digits):
    decoded = decoded_ahead(digits[1], PixelRules(), threads=2, ahead=8)
    next(decoded)
    decoded.close()
    end = time.monotonic() + 10
    while decoding_threads() and time.monotonic() < end:
        time.sleep(0.01)
    assert decoding_threads() == []


def decoding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
