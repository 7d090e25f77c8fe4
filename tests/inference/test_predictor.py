"""From a release to predictions: the same ones wherever and however it is loaded."""

import copy
import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fedlmd.calibration import LEVELS, Reference, Sketch, decide
from fedlmd.data import load
from fedlmd.detection import Mahalanobis, Reconstruction, fuse, heat, l2_normalised
from fedlmd.inference import CLASS, Predictor
from fedlmd.models import CNN
from fedlmd.release import PRETRAINED_FOLDER, VERDICT, Release, ReleaseError, load_release, save_release

CLOSE = {"rel": 1e-4, "abs": 1e-4}


@pytest.fixture(scope="module")
def release(tiny_result, tmp_path_factory):
    return load_release(
        save_release(tmp_path_factory.mktemp("releases"), tiny_result.metrics["card"], tiny_result.weights)
    )


@pytest.fixture(scope="module")
def predictor(release):
    return Predictor(release)


@pytest.fixture(scope="module")
def images():
    return load("mnist", "eval").images(range(8))


def altered(release, change):
    card = copy.deepcopy(release.card)
    change(card)
    return Release(release.id, card, release.weights)


def same(predictions, others):
    assert [(a.prediction, a.is_ood) for a in predictions] == [(b.prediction, b.is_ood) for b in others]
    for a, b in zip(predictions, others, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, **CLOSE)
        assert a.scores == pytest.approx(b.scores, **CLOSE)
        assert a.p_value == pytest.approx(b.p_value, abs=1e-3)


def test_a_release_predicts_bit_for_bit_as_what_was_saved(tiny_result, release, predictor, images):
    unsaved = Predictor(Release(release.id, tiny_result.metrics["card"], tiny_result.weights))
    assert unsaved.predict(images) == predictor.predict(images)


def test_the_same_images_get_the_same_predictions_again(predictor, images):
    assert predictor.predict(images) == predictor.predict(images)


def test_an_image_gets_the_same_prediction_alone_and_in_any_batch(predictor, images):
    same(predictor.predict(images), [predictor.predict(image[None])[0] for image in images])
    same(predictor.predict(images), predictor.predict(images.flip(0))[::-1])


@contextmanager
def two_threads():
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def test_another_number_of_threads_gives_the_same_predictions(predictor, images):
    on_one = predictor.predict(images)
    with two_threads():
        same(on_one, predictor.predict(images))


def test_two_thread_counts_give_the_same_verdicts_on_200_test_images():
    predictor, images = Predictor(load_release(PRETRAINED_FOLDER)), load("mnist", "eval").images(range(200))
    on_one = predictor.predict(images)
    with two_threads():
        same(on_one, predictor.predict(images))
    assert 40 < sum(prediction.is_ood for prediction in on_one) < 160  # both verdicts are among them


def test_a_release_passes_its_self_test_on_any_number_of_threads(release):
    assert set(release.card["self_test"]["findings"]) == {"logits", "mahalanobis", "one-step", VERDICT}
    assert len(release.card["self_test"]["unknown"]) == 8
    with two_threads():
        Predictor(release)


@pytest.mark.parametrize("name", ["classifier.head.weight", "denoiser.stem.weight"])
def test_a_release_whose_weights_were_changed_by_a_hundredth_and_saved_anew_is_not_served(release, name, tmp_path):
    weights = {**release.weights, name: release.weights[name] * 1.01}
    tampered = load_release(save_release(tmp_path, release.card, weights))
    with pytest.raises(ReleaseError, match=r"does not pass its self-test .*off by .*so it is not served; install"):
        Predictor(tampered)


def test_a_release_that_would_decide_otherwise_is_not_served(release):
    def change(card):
        card["self_test"]["unknown"] = [not unknown for unknown in card["self_test"]["unknown"]]

    with pytest.raises(ReleaseError, match="decides otherwise on 8 of 8 images"):
        Predictor(altered(release, change))


def test_a_release_without_a_self_test_is_served_as_before(release, predictor, images):
    older = Predictor(altered(release, remove("self_test")))
    assert older.predict(images) == predictor.predict(images)


def test_a_prediction_is_made_of_its_parts(predictor, images):
    logits = predictor.networks.classifier(images)
    embed = l2_normalised(predictor.networks.classifier.embedding)
    distances = Mahalanobis(embed, predictor.inputs.gaussians, shrinkage=0.1).score(images)
    for position, prediction in enumerate(predictor.predict(images, alpha=0.2)):
        assert prediction.prediction == int(logits[position].argmax())
        assert prediction.label == str(prediction.prediction)
        assert list(prediction.probabilities) == ["0", "1", "2"]
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
        assert prediction.probabilities["1"] == pytest.approx(logits[position].softmax(0)[1].item())
        assert set(prediction.scores) == {*predictor.settings.detectors.verdict, VERDICT}
        assert prediction.scores["mahalanobis"] == pytest.approx(distances[position].item())
        assert prediction.score == prediction.scores[VERDICT]
        assert prediction.threshold == predictor.references[VERDICT].threshold(0.2)
        assert prediction.is_ood == (prediction.score > prediction.threshold) == (prediction.p_value <= 0.2)
        assert prediction.verdict == decide(
            prediction.p_value, 0.2, 0.2, predictor.plausible(logits[position].detach(), 0.2)
        )
        assert (prediction.alpha, prediction.detector) == (0.2, VERDICT)
        assert prediction.release == predictor.release.id


def test_labels_are_plausible_whose_loss_is_usual_for_a_true_label(release, predictor):
    sketch = release.card["calibration"]["sketches"][CLASS]
    limit = Reference.of_sketch(Sketch.from_json(sketch)).threshold(0.1)
    for logits in 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)):
        losses = -logits.log_softmax(0)
        assert predictor.plausible(logits, 0.1) == int((losses <= limit).sum())


def federated(how):
    """Two workers, one of which scores all images lower by 10 than the other."""

    def change(card):
        calibration, workers = card["calibration"], {}
        for worker, shift in (("low", -10.0), ("high", 0.0)):
            sketches = {name: dict(sketch) for name, sketch in calibration["sketches"].items()}
            sketches[VERDICT]["values"] = [value + shift for value in sketches[VERDICT]["values"]]
            workers[worker] = sketches
        calibration["sites"] = workers
        card["settings"]["calibration"]["sites"] = how

    return change


def test_a_worker_is_compared_with_its_own_images_and_without_a_name_with_all(release, predictor):
    card = altered(release, federated("own"))
    low, high, unnamed, unlisted = (Predictor(card, worker) for worker in ("low", "high", None, "elsewhere"))
    own = predictor.references[VERDICT].threshold(0.1)
    assert high.references[VERDICT].threshold(0.1) == own
    assert low.references[VERDICT].threshold(0.1) == pytest.approx(own - 10)
    assert unnamed.references[VERDICT].threshold(0.1) == unlisted.references[VERDICT].threshold(0.1)
    assert own - 10 < unnamed.references[VERDICT].threshold(0.1) < own
    assert low.choices == predictor.choices


def test_the_setting_says_whose_images_a_worker_is_compared_with(release):
    limits = {
        how: Predictor(altered(release, federated(how)), "low").references[VERDICT].threshold(0.2)
        for how in ("pooled", "own", "shrunk")
    }
    assert limits["own"] < limits["shrunk"] < limits["pooled"]


def test_a_release_of_one_worker_is_compared_with_the_images_that_it_has(release):
    def change(card):
        scores = np.arange(200.0)
        card["calibration"]["sketches"][VERDICT] = vars(Sketch.of(scores))
        del card["self_test"]

    # 10 of 200 + 1 may be called unknown: an image itself and the 9 highest.
    assert Predictor(altered(release, change), "client1").references[VERDICT].threshold(0.05) == 190


def test_the_verdict_is_the_fused_score_on_the_releases_scale(predictor, images):
    scores = predictor.scores(images, [VERDICT])
    assert torch.equal(
        scores[VERDICT], fuse(scores, {name: predictor.scale[name] for name in scores if name != VERDICT})
    )


@pytest.fixture
def embedded(monkeypatch):
    """Every batch that passes the classifier's stages."""
    batches, maps = [], CNN.maps

    def counted(network, images):
        batches.append(images)
        return maps(network, images)

    monkeypatch.setattr(CNN, "maps", counted)
    return batches


@pytest.mark.parametrize(("detector", "others"), [("max-logit", 0), ("mahalanobis", 0), ("one-step", 3), (VERDICT, 3)])
def test_an_image_passes_the_classifier_once_however_many_scores_use_it(predictor, images, embedded, detector, others):
    predictor.predict(images, detector=detector)
    assert [len(batch) for batch in embedded] == [len(images)] * (1 + others)
    assert torch.equal(embedded[0], images)
    # One-step denoising embeds its reconstruction at each of three noise levels beside the image.
    assert not any(torch.equal(batch, images) for batch in embedded[1:])


def test_logits_distances_and_reconstructions_together_embed_each_image_once(predictor, images, embedded):
    predictor.outputs(images, ["max-logit", "mahalanobis", "one-step", VERDICT])
    assert len(embedded) == 1 + len(predictor.settings.detector.one_step.levels)
    assert sum(torch.equal(batch, images) for batch in embedded) == 1


def test_a_single_score_can_decide_and_no_other_is_computed(predictor, images):
    (prediction,) = predictor.predict(images[:1], detector="max-logit")
    assert prediction.scores == {"max-logit": prediction.score}
    assert prediction.threshold == predictor.references["max-logit"].threshold(0.05)
    assert set(predictor.choices) == {"max-logit", "mahalanobis", "one-step", "lmd", VERDICT}


def test_a_lower_alarm_rate_has_a_higher_threshold_up_to_none(predictor, images):
    *thresholds, none = [predictor.predict(images[:1], alpha=alpha)[0] for alpha in (0.3, 0.05, 0.001)]
    assert thresholds[0].threshold < thresholds[1].threshold
    assert none.threshold is None  # 60 images cannot promise one alarm in a thousand
    assert not none.is_ood


def test_no_prediction_touches_the_global_random_state(predictor, images):
    before = torch.get_rng_state()
    predictor.predict(images[:1])
    predictor.explain(images[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_explanation_shows_what_was_masked_and_its_reconstruction(predictor, images):
    explanation = predictor.explain(images[:1])
    drawing = explanation.redrawings
    assert drawing.keep.shape == (8, 1, 28, 28)
    assert drawing.reconstructions.shape == (8, 1, 28, 28)
    assert drawing.reconstructions.abs().max() <= 1
    assert torch.equal(drawing.reconstructions[drawing.keep], images[:1].expand(8, 1, 28, 28)[drawing.keep])
    # Two alternating boards: every pixel was redrawn four times, and their median lies between the middle two.
    assert (~drawing.keep).sum(0).eq(4).all()
    drawn = drawing.reconstructions.masked_fill(drawing.keep, torch.inf).sort(0).values
    torch.testing.assert_close(drawing.median, (drawn[1] + drawn[2]) / 2)
    torch.testing.assert_close(
        explanation.heat, heat(images[:1], Reconstruction(drawing.keep, drawing.reconstructions[:, None]))[0]
    )
    assert explanation.redrawn_as == predictor.predict(images[:1], detector="max-logit")[0].label


def test_an_unconditional_map_is_redrawn_as_no_label(release, images):
    def change(card):
        card["settings"]["detector"]["lmd"]["condition"] = "none"

    assert Predictor(altered(release, change)).explain(images[:1]).redrawn_as is None


def test_an_unknown_detector_is_refused_with_those_that_exist(predictor, images):
    with pytest.raises(ValueError, match=r"unknown detector 'magic'; this release has .*max-logit.*verdict"):
        predictor.predict(images, detector="magic")


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_an_alarm_rate_out_of_range_is_refused(predictor, images, alpha):
    with pytest.raises(ValueError, match="lies strictly between 0 and 1"):
        predictor.predict(images, alpha=alpha)


def remove(*path):
    def change(card):
        for key in path[:-1]:
            card = card[key]
        del card[path[-1]]

    return change


def put(value, *path):
    def change(card):
        for key in path[:-1]:
            card = card[key]
        card[path[-1]] = value

    return change


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("settings"), "is incomplete: 'settings' is missing"),
        (remove("calibration"), "is incomplete: 'calibration' is missing"),
        (remove("calibration", "alpha"), "'alpha' is missing"),
        (remove("calibration", "moments", "one-step"), "'one-step' is missing"),
        (remove("calibration", "sketches", CLASS), "'class' is missing"),
        (remove("calibration", "moments", "lmd", "std"), "is wrong: .*'std'"),
        (remove("calibration", "sketches", VERDICT), "'verdict' is missing"),
        (remove("calibration", "sketches", "lmd", "count"), "'count' is missing"),
        (put([], "settings"), "is wrong: settings are a table"),
        (put(7, "settings", "labels"), "is wrong: labels is 7; it must be a list"),
        (put("new", "settings", "invented"), "is wrong: settings.invented: |is wrong: invented: there is no such key"),
        (put([], "calibration"), "is wrong: "),
        (put([], "calibration", "moments"), "is wrong: "),
        (put(None, "calibration", "sketches"), "is wrong: "),
        (put("much", "calibration", "alpha"), "is wrong: .*much"),
        (put(2, "calibration", "alpha"), "is wrong: .*strictly between 0 and 1"),
        (put(math.nan, "calibration", "moments", "lmd", "mean"), "is wrong: moments are finite"),
        (put("1", "calibration", "moments", "lmd", "mean"), "is wrong: "),
        (put([1, 2], "calibration", "sketches", "lmd", "values"), "is wrong: a sketch holds"),
        (put({"a": {VERDICT: {"count": 5}}}, "calibration", "sites"), "'values' is missing"),
        (put({"a": {VERDICT: {"count": 5, "values": [1]}}}, "calibration", "sites"), "is wrong: a sketch holds"),
        (put([], "calibration", "sites"), "is wrong: "),
        (put("all", "settings", "calibration", "sites"), "is wrong: .*sites"),
        (put(["a"] * len(LEVELS), "calibration", "sketches", "lmd", "values"), "is wrong: "),
        (
            put({"count": 5, "values": [0.0] * len(LEVELS)}, "calibration", "sketches", "magic"),
            "is wrong: there is no detector 'magic'; there are max-logit, ",
        ),
        (put(["0", "1"], "settings", "labels"), "the weights do not fit the classifier of these settings: .*head"),
        (put("none", "self_test"), "is wrong: "),
        (put({"findings": {}}, "self_test"), "is wrong: .*'unknown'"),
        (put({"findings": {}, "unknown": []}, "self_test"), "is wrong: 'logits'"),
        (put("level-lines-0", "self_test", "recipe"), "is wrong: its self-test is made by 'level-lines-0'"),
        (put([[1.0]], "self_test", "findings", "logits"), "is wrong: "),
        (put([8, 8], "settings", "models", "denoiser"), "the weights do not fit the denoiser of these settings"),
    ],
)
def test_a_wrong_card_is_refused_when_it_is_loaded_with_what_is_wrong(release, change, message):
    with pytest.raises(ReleaseError, match=message):
        Predictor(altered(release, change))


def test_a_missing_weight_is_named(release):
    weights = {name: array for name, array in release.weights.items() if name != "denoiser.stem.bias"}
    with pytest.raises(ReleaseError, match=r"do not fit the denoiser .*stem\.bias"):
        Predictor(Release(release.id, release.card, weights))


def test_weights_that_are_not_numbers_give_an_error_and_no_prediction(release, images):
    weights = {
        name: array if name.startswith("gaussians") else array * math.nan for name, array in release.weights.items()
    }
    with pytest.raises(ReleaseError, match="gives a score that is not finite; its weights are broken"):
        Predictor(Release(release.id, release.card, weights)).predict(images[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gaussians.means": None}, r"do not fit each other: they have the shapes \[\(3,\), None, \(3, 136\)\]"),
        ({"gaussians.counts": np.ones(4, np.float32)}, "do not fit each other"),
        ({"gaussians.means": np.full((3, 16), np.nan, np.float32)}, "broken: they are not finite"),
        ({"gaussians.counts": np.zeros(3, np.float32)}, "broken: .*of no image"),
    ],
)
def test_gaussians_that_are_not_what_they_must_be_are_refused_at_loading(release, change, message):
    weights = {name: array for name, array in {**release.weights, **change}.items() if array is not None}
    with pytest.raises(ReleaseError, match=message):
        Predictor(Release(release.id, release.card, weights))


def test_a_verdict_that_needs_gaussians_is_refused_without_them(release):
    weights = {name: array for name, array in release.weights.items() if not name.startswith("gaussians")}
    with pytest.raises(ReleaseError, match="is wrong: the detector 'mahalanobis' needs the Gaussians"):
        Predictor(Release(release.id, release.card, weights))


def test_a_card_is_plain_json(release):
    assert json.loads(json.dumps(release.card, allow_nan=False)) == release.card
