"""A site at work, alone and as a federation asks; the federation's part is done by hand here."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd import artifacts
from fedlmd.answer import CLASS, VERDICT, Answerer
from fedlmd.artifacts import half
from fedlmd.compression import check_quantised, restore
from fedlmd.data import PartitionConfig, some, to_unit_range
from fedlmd.detection import LEVELS, Moments, Sketch, directions, fuse, pooled
from fedlmd.federation.merge import shared
from fedlmd.federation.messages import Reply
from fedlmd.federation.plan import Plan
from fedlmd.federation.release import finish_release
from fedlmd.fitting import fit
from fedlmd.learner import PARTS, SITE, Learner, build_handler
from fedlmd.networks import build, detectors, gaussians_of
from fedlmd.progress import Progress, Result
from fedlmd.self_test import LOGITS, deviation, dissenting, patterns
from fedlmd.settings import DataConfig, FederationConfig, Settings, SettingsError, to_mapping
from fedlmd.site import Site
from fedlmd.statistics import added, gaussians
from fedlmd.training import evaluate

LISTS = (("0", "1"), ("1", "2"))


def sites(**options):
    data = DataConfig(partition=PartitionConfig("labels", 2, LISTS))
    return [Learner(Site(f"site-{worker}", data, worker, **options)) for worker in range(2)]


def ask(learner, action, settings, weights=None, **config):
    *progress, result = learner.handle(action, {"settings": to_mapping(settings), **config}, weights or {})
    assert all(isinstance(step, Progress) for step in progress)
    assert isinstance(result, Result)
    return progress, result


def average(results):
    total = sum(result.metrics["num-examples"] for result in results)
    return {
        name: sum(result.weights[name] * np.float32(result.metrics["num-examples"] / total) for result in results)
        for name in results[0].weights
    }


@pytest.fixture(scope="module")
def federation(tiny_settings, tmp_path_factory):
    """Two sites and two rounds of federated averaging, then calibration: everything that went over the wire."""
    learners = sites(releases=tmp_path_factory.mktemp("releases"))
    weights, rounds = build(tiny_settings).weights(), []
    for number in (1, 2):
        replies = [ask(learner, "train", tiny_settings, weights, round=number) for learner in learners]
        rounds.append((weights, replies))
        weights = average([result for _, result in replies])
    final = half(weights)
    final |= gaussians(added([ask(learner, "sums", tiny_settings, final)[1].weights for learner in learners]))
    moments = [ask(learner, "moments", tiny_settings, final)[1].metrics for learner in learners]
    scale = {name: vars(pooled([Moments(**of[name]) for of in moments])) for name in moments[0]}
    sketches = [ask(learner, "thresholds", tiny_settings, moments=scale)[1].metrics for learner in learners]
    return learners, rounds, final, moments, scale, sketches


def test_images_are_loaded_once_for_the_same_settings(tiny_settings):
    learner = sites()[0]
    first = learner.images(tiny_settings)
    assert learner.images(replace(tiny_settings)) is first
    assert learner.images(replace(tiny_settings, seed=5)) is not first


def test_a_round_reports_what_it_did(federation, tiny_settings):
    learners, rounds, *_ = federation
    for weights, replies in rounds:
        for learner, (progress, result) in zip(learners, replies, strict=True):
            stages = [step.stage for step in progress]
            assert stages == ["evaluation"] + ["classifier"] * 60 + ["denoiser"] * 10
            assert [(step.done, step.total) for step in progress[1:61]] == [(done, 60) for done in range(1, 61)]
            before = evaluate(build(tiny_settings, weights).classifier, learner.images(tiny_settings).evaluation)
            assert result.metrics["accuracy"] == before.accuracy
            assert result.metrics["evaluation-loss"] == before.loss
            assert result.metrics["num-examples"] == len(learner.images(tiny_settings).training)
            assert result.metrics["classifier-loss"] == progress[60].metrics["loss"]
            assert result.weights.keys() == weights.keys()
            assert np.array_equal(result.weights["classifier.head.weight"], weights["classifier.head.weight"])  # fixed
            assert not np.array_equal(result.weights["denoiser.head.weight"], weights["denoiser.head.weight"])
            for part in PARTS:
                moved = [(result.weights[name] - weights[name]).ravel() for name in weights if name.startswith(part)]
                assert result.metrics[f"{part}-norm"] == pytest.approx(np.linalg.norm(np.concatenate(moved)), rel=1e-5)


def test_a_round_is_reproducible_and_each_site_and_round_has_its_own_noise(federation, tiny_settings):
    _, rounds, *_ = federation
    weights, replies = rounds[0]
    again = ask(sites()[0], "train", tiny_settings, weights, round=1)[1]
    assert all(np.array_equal(again.weights[name], array) for name, array in replies[0][1].weights.items())


def test_federated_averaging_learns_labels_that_no_site_has_together(federation, tiny_settings):
    _, rounds, final, *_ = federation
    everything = Learner(Site("judge")).images(tiny_settings).evaluation
    untrained = evaluate(build(tiny_settings, rounds[0][0]).classifier, everything)
    averaged = evaluate(build(tiny_settings, final).classifier, everything)
    assert averaged.loss < 0.8 * untrained.loss
    assert averaged.accuracy > 1.5 * untrained.accuracy


def in_8_bits(settings, learners):
    """The final weights of the same two rounds when the sites send changes in 8 bits."""
    weights = build(settings).weights()
    for number in (1, 2):
        averaged, results = {learner.site.name: number - 1 for learner in learners}, []
        for learner in learners:
            result = ask(learner, "train", settings, weights, round=number, run="r", averaged=averaged)[1]
            assert check_quantised(result.weights) is None
            changed = restore(result.weights)
            results.append(Result(result.metrics, {name: weights[name] + of for name, of in changed.items()}))
        weights = average(results)
    return weights


def with_compression(settings):
    return replace(settings, federation=replace(settings.federation, compression="8-bit"))


def test_changes_in_8_bits_train_as_well_as_whole_weights(federation, tiny_settings):
    """Within two hundredths of the loss, of which training took away more than a fifth; see the test above."""
    _, rounds, final, *_ = federation
    settings, everything = with_compression(tiny_settings), Learner(Site("judge")).images(tiny_settings).evaluation
    compressed = in_8_bits(settings, sites())
    whole, small = (evaluate(build(settings, weights).classifier, everything) for weights in (final, compressed))
    assert small.loss == pytest.approx(whole.loss, rel=0.02)
    assert small.accuracy == pytest.approx(whole.accuracy, abs=0.02)
    start = rounds[0][0]
    for part in PARTS:
        names = [name for name in start if name.startswith(part)]
        moved = sum(float(np.square(final[name] - start[name]).sum()) for name in names)
        apart = sum(float(np.square(final[name] - compressed[name]).sum()) for name in names)
        assert 0 < apart < moved / 100


def test_a_learner_owes_what_its_last_averaged_update_could_not_say_until_the_release_is_there(quick, tmp_path):
    settings, weights = with_compression(quick), build(quick).weights()
    learner = sites(releases=tmp_path)[0]
    for number, averaged in ((1, {}), (2, {"site-0": 1}), (3, {"site-0": 1})):
        told = {"round": number, "run": "r", "averaged": averaged}
        update, forgetful = (ask(of, "train", settings, weights, **told)[1].weights for of in (learner, sites()[0]))
        same = all(np.array_equal(array, forgetful[name]) for name, array in update.items())
        assert same == (number == 1), "what is owed of round 1 travels with the rounds after it"
    assert learner.memory.owed(1)
    ask(learner, "install", settings, weights, card={})
    assert learner.memory.owed(1) == {}


def test_work_that_is_cancelled_leaves_what_is_owed_as_it_was(quick):
    settings, weights, learner = with_compression(quick), build(quick).weights(), sites()[0]
    ask(learner, "train", settings, weights, round=1, run="r", averaged={})
    rounds = dict(learner.memory.rounds)
    steps = learner.handle("train", {"settings": to_mapping(settings), "round": 2, "run": "r"}, weights)
    assert isinstance(next(steps), Progress)
    steps.close()
    assert learner.memory.rounds == rounds


@pytest.mark.parametrize("restarts", [False, True])
def test_a_trainer_that_dies_between_the_rounds_goes_on_with_its_own_layers_and_what_it_owes(quick, tmp_path, restarts):
    """Rounds 1, 2, 2 again (as after a resume) and 3, each perhaps by a new process; against rounds 1, 2, 3 of one."""
    federation = FederationConfig(rounds=3, merge="partial", compression="8-bit")
    settings = replace(quick, federation=federation, denoiser=replace(quick.denoiser, steps=6))
    weights = shared("partial", build(settings).weights())

    def done(learners, numbers):
        for number, learner in zip(numbers, learners, strict=True):
            averaged = {"site-0": number - 1}
            yield number, ask(learner, "train", settings, weights, round=number, run="r", averaged=averaged)[1].weights
        yield "own", ask(learner, "denoiser", settings, weights, run="r")[1].weights

    def site():
        return Learner(replace(sites()[0].site, memory=tmp_path))

    expected = dict(done([sites()[0]] * 3, (1, 2, 3)))
    learners = [site() for _ in range(4)] if restarts else [site()] * 4
    for number, found in done(learners, (1, 2, 2, 3)):
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[number][name], err_msg=f"{name} of round {number}")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["round-002.safetensors", "round-003.safetensors"]


def test_the_gaussians_are_those_of_the_embeddings_of_all_sites_training_images(federation, tiny_settings):
    learners, _, final, *_ = federation
    classifier, found = build(tiny_settings, final).classifier, gaussians_of(final)
    described = [some(learner.images(tiny_settings).training, 300) for learner in learners]
    images, labels = torch.cat([of.images() for of in described]), torch.cat([of.labels for of in described])
    vectors = directions(classifier.embedding)(images)
    assert found.counts.tolist() == [int((labels == label).sum()) for label in range(3)]
    for label in range(3):
        members = vectors[labels == label]
        torch.testing.assert_close(found.means[label], members.mean(0), rtol=1e-4, atol=1e-4)
        by_hand = torch.cov(members.T, correction=0)
        torch.testing.assert_close(found.covariances[label], by_hand, rtol=2e-3, atol=1e-3)


def test_the_moments_of_accuracy_and_loss_are_the_evaluation(federation, tiny_settings):
    learners, _, final, moments, scale, _ = federation
    classifier = build(tiny_settings, final).classifier
    found = [evaluate(classifier, learner.images(tiny_settings).evaluation) for learner in learners]
    for of, judged in zip(moments, found, strict=True):
        assert of["accuracy"]["mean"] == pytest.approx(judged.accuracy, rel=1e-6)
        assert of["loss"]["mean"] == pytest.approx(judged.loss, rel=1e-5)
        assert of["accuracy"]["count"] == judged.images
    everything = evaluate(classifier, Learner(Site("judge")).images(tiny_settings).evaluation)
    assert scale["accuracy"]["mean"] == pytest.approx(everything.accuracy, rel=1e-6)
    assert scale["accuracy"]["count"] == everything.images


def test_scores_are_of_so_many_held_back_images_and_of_no_others(federation, tiny_settings):
    learners, _, final, moments, _, _ = federation
    detector = detectors(tiny_settings, build(tiny_settings, final))["max-logit"]
    for learner, of in zip(learners, moments, strict=True):
        assert {name: part["count"] for name, part in of.items() if name not in ("accuracy", "loss")} == dict.fromkeys(
            ("max-logit", "mahalanobis", "one-step", "lmd"), 60
        )
        possible = detector.score(learner.images(tiny_settings).held_back.images())
        nearest = (learner.found.scores["max-logit"][:, None] - possible).abs().amin(1)
        assert nearest.max() < 1e-4


def test_thresholds_are_sketches_of_the_scores_and_of_their_sum_on_the_common_scale(federation, tiny_settings):
    learners, _, _, _, scale, sketches = federation
    common = {name: Moments(**scale[name]) for name in tiny_settings.detector.verdict}
    for learner, of in zip(learners, sketches, strict=True):
        assert set(of) == {"max-logit", "mahalanobis", "one-step", "lmd", VERDICT, CLASS}
        assert of[CLASS] == vars(Sketch.of(learner.found.losses))
        assert of["lmd"] == vars(Sketch.of(learner.found.scores["lmd"]))
        assert of[VERDICT] == vars(Sketch.of(fuse(learner.found.scores, common)))


def test_the_findings_of_the_self_test_come_with_the_thresholds_and_all_sites_find_the_same(federation, tiny_settings):
    learners, _, final, _, scale, _ = federation
    replies = [ask(learner, "thresholds", tiny_settings, moments=scale)[1] for learner in learners]
    assert dissenting([reply.weights for reply in replies]) == []
    networks = build(tiny_settings, final).for_answers()
    by_name = detectors(tiny_settings, networks)
    images = to_unit_range(torch.from_numpy(patterns(1, 28)))
    expected = {name: by_name[name].score(images) for name in tiny_settings.detector.verdict}
    fused = fuse(expected, {name: Moments(**scale[name]) for name in expected})
    with torch.inference_mode():
        found = {LOGITS: networks.classifier(images), **expected, VERDICT: fused}
    for reply in replies:
        assert reply.weights.keys() == found.keys()
        assert all(deviation(reply.weights[name], found[name].numpy()) < 1e-5 for name in found)


def test_a_site_with_twenty_images_and_none_of_a_class_calibrates_and_answers_for_itself(tiny_settings, tiny_result):
    """Sites of 20 and 60 images, of which each lacks a label."""
    learners, moments = sites(), []
    for learner, images in zip(learners, (20, 60), strict=True):
        few = replace(tiny_settings, calibration=replace(tiny_settings.calibration, images=images))
        moments.append(ask(learner, "moments", few, tiny_result.weights)[1].metrics)
    scale = {name: vars(pooled([Moments(**of[name]) for of in moments])) for name in moments[0]}
    replies = [
        Reply(learner.site.name, ask(learner, "thresholds", tiny_settings, moments=scale)[1].metrics)
        for learner in learners
    ]
    assert {of["count"] for of in replies[0].metrics.values()} == {20}
    plan = Plan("r", 1, "x", levels=LEVELS, card={"settings": to_mapping(tiny_settings), "calibration": {"alpha": 0.1}})
    gathered = {"moments": [Reply("s", of) for of in moments], "thresholds": replies}
    card = finish_release(plan, tiny_result.weights, {}, gathered)
    release = artifacts.Release("abc", json.loads(json.dumps(card)), tiny_result.weights)
    for learner, reply in zip(learners, replies, strict=True):
        answerer = Answerer(release, learner.site.name)
        images = learner.images(tiny_settings).held_back.images(range(60))
        answers = answerer.answer(images)
        assert math.isfinite(answers[0].threshold)
        assert (
            sum(answer.is_ood for answer in answers) <= 18
        )  # a tenth of 60, give or take four deviations of 20 images
        own = Sketch(reply.metrics[VERDICT]["count"], tuple(reply.metrics[VERDICT]["values"]))
        factor = 1 + 10 / (own.count + 1)
        assert all(own.p_value(answer.score) <= answer.p_value * factor + 1e-9 for answer in answers)


def test_what_the_sites_give_makes_a_release_that_every_site_installs(federation, tiny_settings):
    learners, _, final, _, scale, _ = federation
    common = {name: Moments(**scale[name]) for name in tiny_settings.detector.verdict}
    fused = torch.cat([fuse(learner.found.scores, common) for learner in learners])
    card = {
        "settings": to_mapping(tiny_settings),
        "calibration": {
            "alpha": 0.1,
            "moments": scale,
            "sketches": {VERDICT: vars(Sketch.of(fused)), CLASS: vars(Sketch.of(learners[0].found.losses))},
        },
    }
    ask(learners[0], "install", tiny_settings, final, card=card)
    folder = learners[0].site.releases
    answerer = Answerer(artifacts.load(artifacts.current(folder)))
    images = learners[0].images(tiny_settings).held_back.images(range(40))
    alarms = sum(answer.is_ood for answer in answerer.answer(images))
    assert answerer.choices == (VERDICT,)
    assert alarms <= 12  # a tenth of 40, give or take four standard deviations


def test_training_alone_gives_a_release_with_everything_in_its_card(tiny_result, tiny_settings):
    card = tiny_result.metrics["card"]
    assert card["settings"] == to_mapping(tiny_settings)
    assert set(card["calibration"]) == {"alpha", "moments", "sketches", "workers"}
    assert set(card["calibration"]["moments"]) == {"max-logit", "mahalanobis", "one-step", "lmd"}
    assert card["metrics"]["images"] == 980 + 1135 + 1032
    assert card["metrics"]["accuracy"] == tiny_result.metrics["accuracy"] > 0.6
    assert card["training"]["workers"] == ["alone"]
    single = {name for name, array in tiny_result.weights.items() if array.dtype == np.float32}
    assert single == {"gaussians.counts", "gaussians.means"}
    assert {str(array.dtype) for name, array in tiny_result.weights.items() if name not in single} == {"float16"}
    judged = evaluate(
        build(tiny_settings, tiny_result.weights).classifier, Learner(Site("judge")).images(tiny_settings).evaluation
    )
    assert card["metrics"]["accuracy"] == pytest.approx(judged.accuracy)


@pytest.fixture
def quick(tiny_settings):
    """Hardly any steps, and the cheapest score alone."""
    return replace(
        tiny_settings,
        classifier=replace(tiny_settings.classifier, steps=3),
        denoiser=replace(tiny_settings.denoiser, steps=2),
        calibration=replace(tiny_settings.calibration, images=5),
    )


def paint(folder, shades):
    """A source of 20 flat images for each label."""
    for label, shade in shades.items():
        (folder / label).mkdir(parents=True)
        for number in range(20):
            Image.new("L", (28, 28), shade + number).save(folder / label / f"{number}.png")


def test_training_alone_on_a_source_of_the_request_installs_its_release_and_leaves_no_image_behind(tmp_path, quick):
    paint(tmp_path / "data" / "flat", {"0": 0, "1": 100, "2": 200})
    learner = Learner(Site("alone", root=tmp_path / "data", releases=tmp_path / "releases"))
    learner.images(quick)
    progress, result = ask(learner, "alone", quick, training="flat")
    assert [step.stage for step in progress] == ["classifier"] * 3 + ["denoiser"] * 2 + ["calibration"]
    assert "card" not in result.metrics
    assert result.metrics["images"] == 60
    release = artifacts.load(artifacts.current(tmp_path / "releases"))
    assert release.id == result.metrics["release"]
    assert release.card["metrics"]["images"] == 60
    # A federation that asks next must get the site's own images.
    assert len(learner.images(quick).evaluation) == 980 + 1135 + 1032


def test_more_rounds_than_steps_leave_a_rounds_weights_as_they_were(quick):
    settings = replace(quick, federation=FederationConfig(rounds=10))
    weights = build(settings).weights()
    progress, result = ask(sites()[0], "train", settings, weights, round=1)
    assert [step.stage for step in progress] == ["evaluation"]
    assert all(np.array_equal(result.weights[name], array) for name, array in weights.items())


def test_the_rounds_share_out_all_steps_of_the_training(quick):
    settings = replace(
        quick, classifier=replace(quick.classifier, steps=7), federation=FederationConfig(rounds=3, min_workers=1)
    )
    weights, learner = build(settings).weights(), sites()[0]
    counts = [
        sum(step.stage == "classifier" for step in ask(learner, "train", settings, weights, round=number)[0])
        for number in (1, 2, 3)
    ]
    assert sum(counts) == 7
    assert max(counts) - min(counts) <= 1


def test_fedprox_keeps_closer_to_the_global_weights(quick):
    settings = replace(quick, classifier=replace(quick.classifier, steps=40, low_precision=False))
    images = sites()[0].images(settings).training
    moved = []
    for mu in (0.0, 100.0):
        networks, start = build(settings), build(settings).weights()
        list(fit("classifier", networks, images, settings, range(40), seed=0, mu=mu))
        moved.append(sum(np.square(array - start[name]).sum() for name, array in networks.weights().items()))
    assert 0 < moved[1] < moved[0] / 4


@pytest.mark.parametrize("part", PARTS)
def test_only_the_part_that_is_trained_changes_and_the_global_random_state_does_not(quick, part):
    networks, before, state = build(quick), build(quick).weights(), torch.get_rng_state()
    steps = list(fit(part, networks, sites()[0].images(quick).training, quick, range(2), seed=3))
    assert [(step.stage, step.done, step.total) for step in steps] == [(part, 1, 2), (part, 2, 2)]
    changed = {n.partition(".")[0] for n, array in networks.weights().items() if not np.array_equal(array, before[n])}
    assert changed == {part}
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_action_is_refused(quick):
    with pytest.raises(ValueError, match="unknown action 'dance'; a site can train, calibrate and install"):
        ask(sites()[0], "dance", quick)


def test_thresholds_need_moments_first(quick):
    with pytest.raises(ValueError, match="ask for its moments first"):
        ask(sites()[0], "thresholds", quick, moments={})


def test_a_site_without_a_folder_for_releases_says_so(quick):
    with pytest.raises(ValueError, match="has no folder for releases"):
        ask(sites()[0], "install", quick, {"a": np.zeros(1)}, card={})


def test_weights_of_other_networks_are_refused_before_anything_is_trained(quick):
    with pytest.raises(artifacts.ReleaseError, match="do not fit the classifier"):
        ask(sites()[0], "train", quick, build(quick.with_labels(("0", "1"))).weights(), round=1)


def test_weights_are_certified_as_training_alone_would(tiny_result, tiny_settings):
    *_, result = Learner(Site("alone")).certify(tiny_settings, tiny_result.weights)
    card = tiny_result.metrics["card"]
    assert result.metrics == {key: card[key] for key in ("calibration", "metrics", "self_test")}


def test_a_process_learns_from_its_environment_which_site_it_works_for(monkeypatch, tmp_path, quick):
    told = {
        "name": "client",
        "settings": {"data": {"partition": {"kind": "labels", "workers": 2, "lists": LISTS}}},
        "worker": 1,
        "root": str(tmp_path),
        "releases": str(tmp_path / "releases"),
        "memory": str(tmp_path / "memory"),
    }
    monkeypatch.setenv(SITE, json.dumps(told))
    handle = build_handler()
    weights = build(quick).weights()
    *_, result = handle("train", {"settings": to_mapping(quick), "round": 1}, weights)
    expected = ask(sites()[1], "train", quick, weights, round=1)[1]
    assert all(np.array_equal(array, expected.weights[name]) for name, array in result.weights.items())


@pytest.mark.parametrize("told", [None, "", "{}", '{"name": "a", "settings": {"data": {"sauce": 1}}, "worker": 0}'])
def test_an_environment_that_describes_no_site_is_refused(monkeypatch, told):
    monkeypatch.delenv(SITE, raising=False)
    if told is not None:
        monkeypatch.setenv(SITE, told)
    with pytest.raises(SettingsError, match="the variable FEDLMD_SITE does not describe a site"):
        build_handler()


def test_a_classifier_of_four_views_learns_from_turned_images_and_answers_upright_ones(tiny_settings):
    """As ``fedlmd train`` has it by default: label and view together, small distortions."""
    default = Settings().classifier
    run = replace(
        tiny_settings,
        models=replace(tiny_settings.models, views=4),
        classifier=replace(tiny_settings.classifier, steps=300, augmentation=default.augmentation),
    )
    assert Settings().models.views == 4
    images, networks = Learner(Site("alone")).images(run), build(run)
    untrained = evaluate(networks.classifier, images.evaluation)
    *_, last = fit("classifier", networks, images.training, run, range(300), seed=0)
    trained = evaluate(networks.classifier, images.evaluation)
    assert last.metrics["loss"] < 0.6 * math.log(3 * 4)  # of a guess among all labels and views
    assert trained.accuracy > 0.9 > untrained.accuracy
