"""From a release to answers: the same ones wherever and however it is loaded."""

import copy
import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from fedlmd import artifacts, settings
from fedlmd.answer import CLASS, VERDICT, Answerer, examined, proof
from fedlmd.artifacts import Release, ReleaseError
from fedlmd.data import load
from fedlmd.detection import LEVELS, Mahalanobis, Moments, Reconstruction, Sketch, decide, directions, fuse, heat
from fedlmd.networks import build, detectors
from fedlmd.node import PRETRAINED_FOLDER

SCALE = dict.fromkeys(("max-logit", "one-step", "lmd"), Moments(10, 0.0, 1.0))
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


@contextmanager
def two_threads():
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def test_another_number_of_threads_gives_the_same_answers(answerer, images):
    on_one = answerer.answer(images)
    with two_threads():
        same(on_one, answerer.answer(images))


def test_two_thread_counts_give_the_same_verdicts_on_200_test_images():
    answerer, images = Answerer(artifacts.load(PRETRAINED_FOLDER)), load("mnist", "eval").images(range(200))
    on_one = answerer.answer(images)
    with two_threads():
        same(on_one, answerer.answer(images))
    assert 40 < sum(answer.is_ood for answer in on_one) < 160  # both verdicts are among them


def test_a_release_passes_its_self_test_on_any_number_of_threads(release):
    assert set(release.card["self_test"]["findings"]) == {"logits", "mahalanobis", "one-step", VERDICT}
    assert len(release.card["self_test"]["unknown"]) == 8
    with two_threads():
        Answerer(release)


@pytest.mark.parametrize("name", ["classifier.head.weight", "denoiser.stem.weight"])
def test_a_release_whose_weights_were_changed_by_a_hundredth_and_saved_anew_is_not_served(release, name, tmp_path):
    weights = {**release.weights, name: release.weights[name] * 1.01}
    tampered = artifacts.load(artifacts.save(tmp_path, release.card, weights))
    with pytest.raises(ReleaseError, match=r"does not answer its self-test .*off by .*so it is not served; install"):
        Answerer(tampered)


def test_a_release_that_would_decide_otherwise_is_not_served(release):
    def change(card):
        card["self_test"]["unknown"] = [not unknown for unknown in card["self_test"]["unknown"]]

    with pytest.raises(ReleaseError, match="decides otherwise on 8 of 8 images"):
        Answerer(altered(release, change))


def test_a_release_without_a_self_test_is_served_as_before(release, answerer, images):
    older = Answerer(altered(release, remove("self_test")))
    assert older.answer(images) == answerer.answer(images)


def test_a_self_test_asks_for_the_scores_of_the_verdict_but_not_for_a_dear_lmd(tiny_settings):
    def names(verdict, steps):
        lmd = {"reconstructions": 1, "inpainting": {"steps": steps}}
        told = settings.merge(settings.to_mapping(tiny_settings), {"detector": {"verdict": verdict, "lmd": lmd}})
        chosen = settings.from_mapping(told)
        networks = build(chosen)
        return set(proof(examined(chosen, networks, detectors(chosen, networks)), chosen, SCALE))

    assert names(["lmd"], 2) == {"logits", "lmd", VERDICT}
    assert names(["lmd", "max-logit"], 1000) == {"logits", "max-logit"}
    assert names(["lmd"], 1000) == {"logits", "one-step"}


def test_an_answer_is_put_together_from_the_parts(answerer, images):
    logits = answerer.networks.classifier(images)
    embed = directions(answerer.networks.classifier.embedding)
    distances = Mahalanobis(embed, answerer.networks.gaussians, shrinkage=0.1).score(images)
    for position, answer in enumerate(answerer.answer(images, alpha=0.2)):
        assert answer.prediction == str(int(logits[position].argmax()))
        assert list(answer.probabilities) == ["0", "1", "2"]
        assert sum(answer.probabilities.values()) == pytest.approx(1)
        assert answer.probabilities["1"] == pytest.approx(logits[position].softmax(0)[1].item())
        assert set(answer.scores) == {*answerer.settings.detector.verdict, VERDICT}
        assert answer.scores["mahalanobis"] == pytest.approx(distances[position].item())
        assert answer.score == answer.scores[VERDICT]
        assert answer.threshold == answerer.sketches[VERDICT].threshold(0.2)
        assert answer.is_ood == (answer.score > answer.threshold) == (answer.p_value <= 0.2)
        assert answer.verdict == decide(answer.p_value, 0.2, 0.2, answerer.plausible(logits[position].detach(), 0.2))
        assert (answer.alpha, answer.detector) == (0.2, VERDICT)
        assert answer.release == answerer.release.id


def test_labels_are_plausible_whose_loss_is_not_strange_for_a_true_label(release, answerer):
    sketch = release.card["calibration"]["sketches"][CLASS]
    limit = Sketch(sketch["count"], tuple(sketch["values"])).threshold(0.1)
    for logits in 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)):
        losses = -logits.log_softmax(0)
        assert answerer.plausible(logits, 0.1) == int((losses <= limit).sum())


def federated(how):
    """Two sites, one of which scores all images lower by 10 than the other."""

    def change(card):
        calibration, sites = card["calibration"], {}
        for site, shift in (("low", -10.0), ("high", 0.0)):
            of = {name: dict(sketch) for name, sketch in calibration["sketches"].items()}
            of[VERDICT]["values"] = [value + shift for value in of[VERDICT]["values"]]
            sites[site] = of
        calibration["sites"] = sites
        card["settings"]["calibration"]["sites"] = how

    return change


def test_a_site_is_compared_with_its_own_images_and_without_a_name_with_all(release, answerer):
    card = altered(release, federated("own"))
    low, high, nobody, stranger = (Answerer(card, site) for site in ("low", "high", None, "elsewhere"))
    own = answerer.sketches[VERDICT].threshold(0.1)
    assert high.sketches[VERDICT].threshold(0.1) == own
    assert low.sketches[VERDICT].threshold(0.1) == pytest.approx(own - 10)
    assert nobody.sketches[VERDICT].threshold(0.1) == stranger.sketches[VERDICT].threshold(0.1)
    assert own - 10 < nobody.sketches[VERDICT].threshold(0.1) < own
    assert low.choices == answerer.choices


def test_the_setting_says_whose_images_a_site_is_compared_with(release):
    limits = {
        how: Answerer(altered(release, federated(how)), "low").sketches[VERDICT].threshold(0.2)
        for how in ("pooled", "own", "shrunk")
    }
    assert limits["own"] < limits["shrunk"] < limits["pooled"]


def test_a_release_of_one_site_is_compared_with_the_images_that_it_has(release):
    def change(card):
        scores = torch.arange(200.0, dtype=torch.float64)
        card["calibration"]["sketches"][VERDICT] = vars(Sketch.of(scores))
        del card["self_test"]

    # 10 of 200 + 1 may be called unknown: an image itself and the 9 highest.
    assert Answerer(altered(release, change), "client1").sketches[VERDICT].threshold(0.05) == 190


def test_the_verdict_is_the_fused_score_on_the_releases_scale(answerer, images):
    scores = answerer.scores(images, [VERDICT])
    assert torch.equal(
        scores[VERDICT], fuse(scores, {name: answerer.scale[name] for name in scores if name != VERDICT})
    )


def test_a_single_score_can_decide_and_no_other_is_computed(answerer, images):
    (answer,) = answerer.answer(images[:1], detector="max-logit")
    assert answer.scores == {"max-logit": answer.score}
    assert answer.threshold == answerer.sketches["max-logit"].threshold(0.05)
    assert set(answerer.choices) == {"max-logit", "mahalanobis", "one-step", "lmd", VERDICT}


def test_a_lower_alarm_rate_has_a_higher_threshold_up_to_infinity(answerer, images):
    thresholds = [answerer.answer(images[:1], alpha=alpha)[0].threshold for alpha in (0.3, 0.05, 0.001)]
    assert thresholds == sorted(thresholds)
    assert thresholds[-1] == math.inf  # 60 images cannot promise one alarm in a thousand


def test_no_answer_touches_the_global_random_state(answerer, images):
    before = torch.get_rng_state()
    answerer.answer(images[:1])
    answerer.explain(images[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_an_explanation_shows_what_was_hidden_and_what_it_came_back_as(answerer, images):
    found = answerer.explain(images[:1])
    assert found.keep.shape == (8, 1, 28, 28)
    assert found.reconstructions.shape == (8, 1, 28, 28)
    assert found.reconstructions.abs().max() <= 1
    assert torch.equal(found.reconstructions[found.keep], images[:1].expand(8, 1, 28, 28)[found.keep])
    # Two alternating boards: every pixel was redrawn four times, and their median lies between the middle two.
    assert (~found.keep).sum(0).eq(4).all()
    drawn = found.reconstructions.masked_fill(found.keep, torch.inf).sort(0).values
    torch.testing.assert_close(found.median, (drawn[1] + drawn[2]) / 2)
    torch.testing.assert_close(
        found.heat, heat(images[:1], Reconstruction(found.keep, found.reconstructions[:, None]))[0]
    )
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
        (remove("calibration", "sketches", CLASS), "'class' is missing"),
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
        (put({"a": {VERDICT: {"count": 5}}}, "calibration", "sites"), "'values' is missing"),
        (put({"a": {VERDICT: {"count": 5, "values": [1]}}}, "calibration", "sites"), "is wrong: a sketch holds"),
        (put([], "calibration", "sites"), "is wrong: "),
        (put("all", "settings", "calibration", "sites"), "is wrong: .*sites"),
        (put(["a"] * len(LEVELS), "calibration", "sketches", "lmd", "values"), "is wrong: "),
        (
            put({"count": 5, "values": [0.0] * len(LEVELS)}, "calibration", "sketches", "magic"),
            "calibrates an unknown 'magic'",
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
        Answerer(altered(release, change))


def test_a_missing_weight_is_named(release):
    weights = {name: array for name, array in release.weights.items() if name != "denoiser.stem.bias"}
    with pytest.raises(ReleaseError, match=r"do not fit the denoiser .*stem\.bias"):
        Answerer(Release(release.id, release.card, weights))


def test_weights_that_are_not_numbers_give_an_error_and_no_answer(release, images):
    weights = {
        name: array if name.startswith("gaussians") else array * math.nan for name, array in release.weights.items()
    }
    with pytest.raises(ReleaseError, match="gives a score that is not finite; its weights are broken"):
        Answerer(Release(release.id, release.card, weights)).answer(images[:1])


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
        Answerer(Release(release.id, release.card, weights))


def test_a_verdict_that_needs_gaussians_is_refused_without_them(release):
    weights = {name: array for name, array in release.weights.items() if not name.startswith("gaussians")}
    with pytest.raises(ReleaseError, match="it calibrates an unknown 'mahalanobis'"):
        Answerer(Release(release.id, release.card, weights))


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
