"""A release with scikit-learn's methods: the predictions of ``fedlmd infer``, for images in any form."""

import copy
import io
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, get_scorer, roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from typer.testing import CliRunner

import fedlmd
from fedlmd.cli import app
from fedlmd.data import DataError, load, to_unit_range
from fedlmd.inference.estimator import ReleaseEstimator
from fedlmd.release import PRETRAINED_FOLDER, Release, ReleaseError, save_release


@pytest.fixture(scope="module")
def estimator():
    return fedlmd.load("digits-0-4")


@pytest.fixture(scope="module")
def digits():
    """70 digits, more than are scored at once: uint8 (N, 28, 28), and what they show."""
    images = load("mnist", "eval")
    return images.pixels[:70, 0].numpy(), images.labels[:70].numpy()


@pytest.fixture(scope="module")
def predictions(estimator, digits):
    return estimator.predictor.predict(to_unit_range(load("mnist", "eval").pixels[:70]))


def test_importing_the_package_imports_nothing_else():
    program = "import sys, fedlmd; print(sorted(m for m in sys.modules if m.split('.')[0] in ('torch','numpy','PIL')))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.strip() == b"[]"


def test_its_arrays_are_the_predictions(estimator, digits, predictions):
    images, _ = digits
    assert estimator.classes_.tolist() == [0, 1, 2, 3, 4]
    assert estimator.predict(images).tolist() == [p.prediction for p in predictions]
    assert estimator.score_samples(images).tolist() == [-p.score for p in predictions]
    assert estimator.decision_function(images).tolist() == [p.threshold - p.score for p in predictions]
    assert estimator.is_ood(images).tolist() == [p.is_ood for p in predictions]
    assert estimator.p_values(images).tolist() == [p.p_value for p in predictions]
    assert estimator.predict_proba(images) == pytest.approx(
        np.array([list(p.probabilities.values()) for p in predictions]), abs=1e-6
    )
    assert estimator.infer(images) == predictions


def test_the_sign_of_the_decision_function_is_the_verdict_at_every_alpha_and_the_threshold_itself_is_known(
    estimator, digits
):
    images = digits[0][:20]
    other = clone(estimator)
    for alpha in (0.001, 0.02, 0.2):
        other.set_params(alpha=alpha)
        unknown = [p.is_ood for p in other.predictor.predict(to_unit_range(tensors(images)), alpha=alpha)]
        assert (other.decision_function(images) < 0).tolist() == unknown
        assert other.decision_function(images) == pytest.approx(other.score_samples(images) - other.offset_)
    other.offset_ = other.score_samples(images[:1])[0]
    assert other.decision_function(images[:1]).tolist() == [0]
    assert not other.is_ood(images[:1])[0]


def tensors(images):
    return load("mnist", "eval").pixels[: len(images)]


def test_a_file_gets_what_the_command_line_gives_it(estimator, tmp_path):
    rng = np.random.default_rng(0)
    photograph = Image.fromarray(rng.integers(0, 256, (90, 61, 3), np.uint8).repeat(2, 0))
    sideways = photograph.getexif()
    sideways[0x0112] = 6
    photograph.save(tmp_path / "turned.jpg", exif=sideways)
    photograph.quantize(7).save(tmp_path / "palette.png")
    Image.fromarray(rng.integers(0, 65536, (40, 40)).astype(np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(rng.integers(0, 256, (30, 28, 4), np.uint8)).save(tmp_path / "clear.png")
    paths = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(app, ["infer", "digits-0-4", *map(str, paths), "--format", "jsonl", "--threads", "1"])
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    for images in (paths, [path.read_bytes() for path in paths], [Image.open(path) for path in paths]):
        records = estimator.infer(images)
        assert [record.score for record in records] == [row["score"] for row in rows]
        assert [record.probabilities for record in records] == [row["probabilities"] for row in rows]


def forms(images):
    """The same images in every form that is taken."""
    file = io.BytesIO()
    Image.fromarray(images[0]).save(file, "PNG")
    return {
        "(N, H, W)": images,
        "(N, H, W, 1)": images[..., None],
        "RGB": images[..., None].repeat(3, -1),
        "flat": images.reshape(len(images), -1),
        "flat list": list(images.reshape(len(images), -1)),
        "float": (images / 255).astype(np.float64),
        "uint16": images.astype(np.uint16) * 257,
        "list": list(images),
        "generator": (image for image in images),
        "objects": np.array([*map(Image.fromarray, images), None], object)[:-1],
        "mixed": [file.getvalue(), Image.fromarray(images[1]).convert("P"), images[2] / 255, *images[3:]],
    }


@pytest.mark.parametrize("form", forms(np.zeros((3, 28, 28), np.uint8)))
def test_every_form_of_the_same_images_gets_the_same_scores(estimator, digits, form):
    images = digits[0][:5]
    assert estimator.score_samples(forms(images)[form]).tolist() == estimator.score_samples(images).tolist()


def test_one_image_is_a_batch_of_one(estimator, digits, tmp_path):
    image = digits[0][0]
    Image.fromarray(image).save(tmp_path / "one.png")
    expected = estimator.score_samples(image[None]).tolist()
    data = (tmp_path / "one.png").read_bytes()
    for one in (image, image[..., None], tmp_path / "one.png", str(tmp_path / "one.png"), data, Image.fromarray(image)):
        assert estimator.score_samples(one).tolist() == expected


def test_no_image_gives_empty_arrays(estimator):
    assert estimator.predict([]).shape == (0,)
    assert estimator.predict_proba([]).shape == (0, 5)
    assert estimator.is_ood([]).shape == (0,)
    assert estimator.infer([]) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 1, 28, 28), np.uint8), r"channels in front; channels come last: X.transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 28, 28, 5), np.uint8), r"has the shape \(2, 28, 28, 5\); give \(H, W\)"),
        (np.zeros(784, np.uint8), r"has the shape \(784,\)"),
        (np.full((1, 28, 28), 255.0), r"image 0: the array holds floats from 255 to 255; floats lie in \[0, 1\]"),
        (np.zeros((1, 28, 28), np.int64), "int64, of which black and white are not known; give uint8"),
        ([np.zeros((28, 28), np.uint8), np.full((28, 28), np.nan)], "image 1: some of its values are not finite"),
        ([np.zeros(64, np.uint8)], r"one image is \(H, W\), .* or flat \(784,\)"),
        (["missing.png"], r"image 0 \(missing.png\): it cannot be read: No such file or directory"),
        ([b"GIF89a"], "image 0: the data is not a readable image"),
        ([[0, 1]], "image 0: it is given as list; give a path, a PIL image, bytes or an array"),
        (7, "images are given as int; give a path"),
        ({"a.png": 1}, "images are given as dict"),
    ],
    ids=str,
)
def test_what_is_unclear_is_refused_in_one_sentence(estimator, images, message):
    with pytest.raises(DataError, match=message):
        estimator.predict(images)


def test_images_are_decoded_a_few_at_a_time(estimator, digits, monkeypatch):
    sizes = []
    outputs = type(estimator.predictor).outputs

    def counted(self, images, names):
        sizes.append((len(images), taken[0]))
        return outputs(self, images, names)

    def images():
        for image in digits[0]:
            taken[0] += 1
            yield image

    taken = [0]
    monkeypatch.setattr(type(estimator.predictor), "outputs", counted)
    estimator.predict(images())
    assert sizes == [(64, 64), (6, 70)]


def test_columns_have_the_order_of_the_sorted_classes_whatever_order_the_release_has(tiny_result, digits):
    card = copy.deepcopy(tiny_result.metrics["card"])
    card["settings"]["labels"] = ["b", "c", "a"]
    estimator = ReleaseEstimator(Release("0" * 12, card, tiny_result.weights))
    images = digits[0][:9]
    assert estimator.classes_.tolist() == ["a", "b", "c"]
    for row, label, record in zip(
        estimator.predict_proba(images), estimator.predict(images), estimator.infer(images), strict=True
    ):
        assert row == pytest.approx([record.probabilities[label] for label in "abc"], abs=1e-6)
        assert label == record.prediction


def test_scikit_learns_metrics_scorers_and_pipelines_take_it(estimator, digits):
    images, labels = digits
    known = labels < 5
    assert is_classifier(estimator)
    assert accuracy_score(labels[known], estimator.predict(images[known])) == 1
    assert estimator.score(images[known], labels[known]) == 1
    assert roc_auc_score(known, estimator.decision_function(images)) > 0.9
    assert roc_auc_score(labels[known], estimator.predict_proba(images[known]), multi_class="ovr") == 1
    assert get_scorer("roc_auc_ovr")(estimator, images[known], labels[known]) == 1
    pipeline = make_pipeline(FunctionTransformer(np.ascontiguousarray), estimator)
    assert pipeline.predict(images[:3]).tolist() == estimator.predict(images[:3]).tolist()
    assert cross_val_score(FrozenEstimator(estimator), images[known], labels[known], cv=2).tolist() == [1, 1]


def test_it_refuses_to_be_fitted(estimator, digits):
    with pytest.raises(TypeError, match="trained already"):
        estimator.fit(*digits)


def test_parameters_are_set_all_or_none(estimator, digits):
    other = clone(estimator).set_params(alpha=0.2, detector="max-logit")
    assert other.get_params() == {"release": "digits-0-4", "alpha": 0.2, "detector": "max-logit", "worker": None}
    images = digits[0][:3]
    expected = other.predictor.predict(to_unit_range(tensors(images)), alpha=0.2, detector="max-logit")
    assert other.infer(images) == expected
    assert other.decision_function(images).tolist() == [p.threshold - p.score for p in expected]
    for wrong in ({"alpha": 2.0}, {"detector": "luck"}, {"worker": "nobody"}, {"beta": 1}):
        with pytest.raises(ValueError, match=r"luck|nobody|beta|between 0 and 1"):
            other.set_params(**{"release": PRETRAINED_FOLDER, **wrong})
        assert other.get_params()["release"] == "digits-0-4"
        assert other.infer(images) == expected


def test_too_small_an_alpha_makes_every_image_known(estimator, digits):
    other = clone(estimator).set_params(alpha=1e-6)
    assert other.offset_ == -np.inf
    assert not other.is_ood(digits[0][:9]).any()


def test_it_is_pickled_by_content(tiny_result, digits, tmp_path):
    folder = save_release(tmp_path, tiny_result.metrics["card"], tiny_result.weights)
    estimator = fedlmd.load(folder, alpha=0.1)
    data = pickle.dumps(estimator)
    (folder / "card.json").unlink()
    again = pickle.loads(data)
    assert (
        repr(again)
        == repr(estimator)
        == f"ReleaseEstimator({str(folder)!r}, alpha=0.1, detector='verdict', worker=None)"
    )
    assert again.infer(digits[0][:9]) == estimator.infer(digits[0][:9])


def test_a_folder_that_holds_no_release_is_refused(tmp_path):
    with pytest.raises(ReleaseError, match=r"is not a release: card\.json is missing"):
        fedlmd.load(tmp_path)
