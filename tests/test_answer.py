"""From a release to answers: the same ones wherever and however it is loaded."""

import copy
import json
import math

import pytest
import torch

from fedlmd import artifacts
from fedlmd.answer import VERDICT, Answerer, build, detectors
from fedlmd.artifacts import Release, ReleaseError
from fedlmd.data import load
from fedlmd.detection import fuse

CLOSE = {"rel": 1e-4, "abs": 1e-4}


@pytest.fixture(scope="module")
def release(tiny_result, tmp_path_factory):
    return artifacts.load(
        artifacts.save(tmp_path_factory.mktemp("releases"), tiny_result.metrics["card"], tiny_result.weights)
    )


@pytest.fixture(scope="module")
def answerer(release):
    return Answerer(release)


@pytest.fixture(scope="module")
def images():
    return load("mnist", "eval").images(range(8))


def altered(release, change):
    card = copy.deepcopy(release.card)
    change(card)
    return Release(release.id, card, release.weights)


def same(answers, others):
    assert [(a.prediction, a.is_ood) for a in answers] == [(b.prediction, b.is_ood) for b in others]
    for a, b in zip(answers, others, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, **CLOSE)
        assert a.scores == pytest.approx(b.scores, **CLOSE)
        assert a.p_value == pytest.approx(b.p_value, abs=1e-3)


def test_a_release_answers_bit_for_bit_as_what_was_saved(tiny_result, release, answerer, images):
    unsaved = Answerer(Release(release.id, tiny_result.metrics["card"], tiny_result.weights))
    assert unsaved.answer(images) == answerer.answer(images)


def test_the_same_images_get_the_same_answers_again(answerer, images):
    assert answerer.answer(images) == answerer.answer(images)


def test_an_image_gets_the_same_answer_alone_and_in_any_batch(answerer, images):
    same(answerer.answer(images), [answerer.answer(image[None])[0] for image in images])
    same(answerer.answer(images), answerer.answer(images.flip(0))[::-1])


def test_another_number_of_threads_gives_the_same_answers(answerer, images):
    on_one = answerer.answer(images)
    torch.set_num_threads(2)
    try:
        same(on_one, answerer.answer(images))
    finally:
        torch.set_num_threads(1)


def test_an_answer_is_put_together_from_the_parts(answerer, images):
    logits = answerer.networks.classifier(images)
    for position, answer in enumerate(answerer.answer(images, alpha=0.2)):
        assert answer.prediction == str(int(logits[position].argmax()))
        assert list(answer.probabilities) == ["0", "1", "2"]
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.probabilities["1"] == pytest.approx(logits[position].softmax(0)[1].item())
        assert set(answer.scores) == {*answerer.settings.detector.verdict, VERDICT}
        assert answer.scores["max-logit"] == pytest.approx(-logits[position].max().item())
        assert answer.score == answer.scores[VERDICT]
        assert answer.threshold == answerer.sketches[VERDICT].threshold(0.2)
        assert answer.is_ood == (answer.score > answer.threshold) == (answer.p_value < 0.2)
        assert (answer.alpha, answer.detector) == (0.2, VERDICT)
        assert answer.release == answerer.release.id


def test_the_verdict_is_the_fused_score_on_the_releases_scale(answerer, images):
    scores = answerer.scores(images, [VERDICT])
    assert torch.equal(
        scores[VERDICT], fuse(scores, {name: answerer.scale[name] for name in scores if name != VERDICT})
    )


def test_a_single_score_can_decide_and_no_other_is_computed(answerer, images):
    (answer,) = answerer.answer(images[:1], detector="max-logit")
    assert answer.scores == {"max-logit": answer.score}
    assert answer.threshold == answerer.sketches["max-logit"].threshold(0.05)
    assert set(answerer.choices) == {"max-logit", "one-step", "lmd", VERDICT}


def test_a_lower_alarm_rate_has_a_higher_threshold_up_to_infinity(answerer, images):
    thresholds = [answerer.answer(images[:1], alpha=alpha)[0].threshold for alpha in (0.3, 0.05, 0.001)]
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] == math.inf  # 60 images cannot promise one alarm in a thousand


def test_no_answer_touches_the_global_random_state(answerer, images):
    before = torch.get_rng_state()
    answerer.answer(images[:1])
    answerer.explain(images[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_explanation_shows_what_was_hidden_and_how_far_off_it_came_back(answerer, images):
    found = answerer.explain(images[:1])
    assert found.keep.shape == (2, 1, 28, 28)
    assert found.reconstructions.shape == (2, 1, 28, 28)
    assert found.reconstructions.abs().max() <= 1
    assert torch.equal(found.reconstructions[found.keep], images[:1].expand(2, 1, 28, 28)[found.keep])
    # Two alternating boards: every pixel was redrawn once, and its heat is that one squared difference.
    difference = (found.reconstructions - images[:1]).square().sum((0, 1))
    torch.testing.assert_close(found.heat, difference)
    assert found.redrawn_as == answerer.answer(images[:1], detector="max-logit")[0].prediction


def test_an_unconditional_map_is_redrawn_as_no_label(release, images):
    def change(card):
        card["settings"]["detector"]["lmd"]["condition"] = "none"

    assert Answerer(altered(release, change)).explain(images[:1]).redrawn_as is None


def test_an_unknown_detector_is_answered_with_those_that_exist(answerer, images):
    with pytest.raises(ValueError, match=r"unknown detector 'magic'; this release has .*max-logit.*verdict"):
        answerer.answer(images, detector="magic")


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_an_alarm_rate_out_of_range_is_refused(answerer, images, alpha):
    with pytest.raises(ValueError, match="lies strictly between 0 and 1"):
        answerer.answer(images, alpha=alpha)


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
        (remove("calibration", "moments", "lmd", "std"), "is wrong: .*'std'"),
        (remove("calibration", "sketches", VERDICT), "'verdict' is missing"),
        (remove("calibration", "sketches", "lmd", "count"), "'count' is missing"),
        (put([], "settings"), "is wrong: settings are a table"),
        (put(7, "settings", "labels"), 'is wrong: .*"labels"'),
        (put("new", "settings", "invented"), 'is wrong: .*"invented"'),
        (put([], "calibration"), "is wrong: "),
        (put([], "calibration", "moments"), "is wrong: "),
        (put(None, "calibration", "sketches"), "is wrong: "),
        (put("much", "calibration", "alpha"), "is wrong: .*much"),
        (put(2, "calibration", "alpha"), "is wrong: .*strictly between 0 and 1"),
        (put(math.nan, "calibration", "moments", "lmd", "mean"), "is wrong: moments are finite"),
        (put("1", "calibration", "moments", "lmd", "mean"), "is wrong: "),
        (put([1, 2], "calibration", "sketches", "lmd", "values"), "is wrong: a sketch holds"),
        (put(["a"] * 146, "calibration", "sketches", "lmd", "values"), "is wrong: "),
        (put({"count": 5, "values": [0.0] * 146}, "calibration", "sketches", "magic"), "calibrates an unknown 'magic'"),
        (put(["0", "1"], "settings", "labels"), "the weights do not fit the classifier of these settings: .*head"),
        (put([8, 8], "settings", "models", "denoiser"), "the weights do not fit the denoiser of these settings"),
    ],
)
def test_a_wrong_card_is_refused_when_it_is_loaded_with_what_is_wrong(release, change, message):
    with pytest.raises(ReleaseError, match=message):
        Answerer(altered(release, change))


def test_a_missing_weight_is_named(release):
    weights = {name: array for name, array in release.weights.items() if name != "denoiser.stem.bias"}
    with pytest.raises(ReleaseError, match=r"do not fit the denoiser .*stem\.bias"):
        Answerer(Release(release.id, release.card, weights))


def test_weights_that_are_not_numbers_give_an_error_and_no_answer(release, images):
    weights = {name: array * math.nan for name, array in release.weights.items()}
    with pytest.raises(ReleaseError, match="gives a score that is not finite; its weights are broken"):
        Answerer(Release(release.id, release.card, weights)).answer(images[:1])


def test_networks_start_from_the_runs_seed_alone(tiny_settings):
    before = torch.get_rng_state()
    first, again = build(tiny_settings).weights(), build(tiny_settings).weights()
    assert torch.equal(torch.get_rng_state(), before)
    assert all((first[name] == again[name]).all() for name in first)
    assert {name.partition(".")[0] for name in first} == {"classifier", "denoiser"}


def test_weights_of_any_precision_are_held_as_single(tiny_settings):
    weights = build(tiny_settings).weights()
    halved = {name: array.astype("float16") for name, array in weights.items()}
    held = build(tiny_settings, halved)
    assert {str(array.dtype) for array in held.weights().values()} == {"float32"}
    assert all((held.weights()[name] == halved[name]).all() for name in weights)
    assert not held.classifier.training


def test_a_card_is_plain_json(release):
    assert json.loads(json.dumps(release.card, allow_nan=False)) == release.card


@pytest.mark.parametrize("name", ["max-logit", "one-step", "lmd"])
def test_detectors_compute_where_their_networks_are(tiny_settings, name):
    # The meta device has shapes but no values, and refuses to mix with the processor as a graphics processor would.
    networks = build(tiny_settings)
    for network in networks.parts().values():
        network.to("meta")
    scores = detectors(tiny_settings, networks)[name].score(torch.zeros(3, 1, 28, 28, device="meta"))
    assert (scores.device.type, scores.shape) == ("meta", (3,))
    assert networks.device.type == "meta"
