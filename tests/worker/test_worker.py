"""A worker, alone and in a federation, whose server's part is done by hand here."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedlmd.calibration import EVALUATION, Moments, PromiseCheck, Reference, Sketch, pool_moments
from fedlmd.calibration.class_gaussians import added, gaussians
from fedlmd.data import DataConfig, DataError, PartitionConfig, some, to_unit_range
from fedlmd.detection import class_gaussians, fuse, l2_normalised
from fedlmd.federation.compression import check_quantised, restore
from fedlmd.federation.config import FederationConfig
from fedlmd.federation.messages import Reply
from fedlmd.federation.server.card import finish_release
from fedlmd.federation.server.merge import shared
from fedlmd.inference.detectors import detectors
from fedlmd.inference.predictor import CLASS, Predictor
from fedlmd.models.networks import build
from fedlmd.progress import Progress, Result, drain
from fedlmd.release import VERDICT, Release, current_release, load_release
from fedlmd.release.self_test import LOGITS, dissenting, patterns, relative_difference
from fedlmd.release.store import half
from fedlmd.settings import Settings, SettingsError, plan_of, to_mapping
from fedlmd.training import evaluate
from fedlmd.worker.alone import certify, resolved, train_alone
from fedlmd.worker.handler import WORKER, build_handler
from fedlmd.worker.images import WorkerConfig
from fedlmd.worker.training import fit_part
from fedlmd.worker.worker import Worker

PARTS = ("classifier", "denoiser")
LISTS = (("0", "1"), ("1", "2"))


def make_workers(**options):
    data = DataConfig(partition=PartitionConfig("labels", 2, LISTS))
    return [Worker(WorkerConfig(f"worker-{worker}", data, worker, **options)) for worker in range(2)]


def send(worker, action, settings, weights=None, **config):
    progress = []
    result = drain(worker.handle(action, {"settings": to_mapping(settings), **config}, weights or {}), progress.append)
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
    """Two workers and two rounds of federated averaging, then calibration: everything that was sent."""
    workers = make_workers(releases=tmp_path_factory.mktemp("releases"))
    weights, rounds = build(tiny_settings.networks).weights(), []
    for number in (1, 2):
        replies = [send(worker, "train", tiny_settings, weights, round=number) for worker in workers]
        rounds.append((weights, replies))
        weights = average([result for _, result in replies])
    final = half(weights)
    final |= gaussians(added([send(worker, "sums", tiny_settings, final)[1].weights for worker in workers]))
    moments = [send(worker, "moments", tiny_settings, final)[1].metrics for worker in workers]
    scale = pool_moments(moments)
    sketches = [send(worker, "thresholds", tiny_settings, moments=scale)[1].metrics for worker in workers]
    return workers, rounds, final, moments, scale, sketches


def test_images_are_loaded_once_for_the_same_settings(tiny_settings):
    worker = make_workers()[0]
    first = drain(worker.images(tiny_settings, {}))
    assert drain(worker.images(replace(tiny_settings), {})) is first
    assert drain(worker.images(replace(tiny_settings, seed=5), {})) is not first


def test_a_round_reports_what_it_did(federation, tiny_settings):
    workers, rounds, *_ = federation
    for weights, replies in rounds:
        for worker, (progress, result) in zip(workers, replies, strict=True):
            stages = [step.stage for step in progress]
            assert stages == ["evaluation"] + ["classifier"] * 60 + ["denoiser"] * 10
            assert [(step.done, step.total) for step in progress[1:61]] == [(done, 60) for done in range(1, 61)]
            before = evaluate(
                build(tiny_settings.networks, weights).classifier, drain(worker.images(tiny_settings, {})).evaluation
            )
            assert result.metrics["accuracy"] == before.accuracy
            assert result.metrics["evaluation-loss"] == before.loss
            assert result.metrics["num-examples"] == len(drain(worker.images(tiny_settings, {})).training)
            assert result.metrics["calibration-images"] == 60
            assert result.metrics["classifier-loss"] == progress[60].metrics["loss"]
            assert result.weights.keys() == weights.keys()
            assert np.array_equal(result.weights["classifier.head.weight"], weights["classifier.head.weight"])  # fixed
            assert not np.array_equal(result.weights["denoiser.head.weight"], weights["denoiser.head.weight"])
            for part in PARTS:
                moved = [(result.weights[name] - weights[name]).ravel() for name in weights if name.startswith(part)]
                assert result.metrics[f"{part}-norm"] == pytest.approx(np.linalg.norm(np.concatenate(moved)), rel=1e-5)


def test_a_round_is_reproducible_and_each_worker_and_round_has_its_own_noise(federation, tiny_settings):
    _, rounds, *_ = federation
    weights, replies = rounds[0]
    again = send(make_workers()[0], "train", tiny_settings, weights, round=1)[1]
    assert all(np.array_equal(again.weights[name], array) for name, array in replies[0][1].weights.items())


def test_federated_averaging_learns_labels_that_no_worker_has_together(federation, tiny_settings):
    _, rounds, final, *_ = federation
    everything = drain(Worker(WorkerConfig("evaluator")).images(tiny_settings, {})).evaluation
    untrained = evaluate(build(tiny_settings.networks, rounds[0][0]).classifier, everything)
    averaged = evaluate(build(tiny_settings.networks, final).classifier, everything)
    assert averaged.loss < 0.8 * untrained.loss
    assert averaged.accuracy > 1.5 * untrained.accuracy


def in_8_bits(settings, workers):
    """The final weights of the same two rounds when the workers send changes in 8 bits."""
    weights = build(settings.networks).weights()
    for number in (1, 2):
        averaged, results = {worker.config.name: number - 1 for worker in workers}, []
        for worker in workers:
            result = send(worker, "train", settings, weights, round=number, run="r", averaged=averaged)[1]
            assert check_quantised(result.weights) is None
            changed = restore(result.weights)
            results.append(Result(result.metrics, {name: weights[name] + change for name, change in changed.items()}))
        weights = average(results)
    return weights


def with_compression(settings):
    return replace(settings, federation=replace(settings.federation, compression="8-bit"))


def test_changes_in_8_bits_train_as_well_as_whole_weights(federation, tiny_settings):
    """Within two hundredths of the loss, of which training took away more than a fifth; see the test above."""
    _, rounds, final, *_ = federation
    settings, everything = (
        with_compression(tiny_settings),
        drain(Worker(WorkerConfig("evaluator")).images(tiny_settings, {})).evaluation,
    )
    compressed = in_8_bits(settings, make_workers())
    whole, small = (
        evaluate(build(settings.networks, weights).classifier, everything) for weights in (final, compressed)
    )
    assert small.loss == pytest.approx(whole.loss, rel=0.02)
    assert small.accuracy == pytest.approx(whole.accuracy, abs=0.02)
    start = rounds[0][0]
    for part in PARTS:
        names = [name for name in start if name.startswith(part)]
        moved = sum(float(np.square(final[name] - start[name]).sum()) for name in names)
        apart = sum(float(np.square(final[name] - compressed[name]).sum()) for name in names)
        assert 0 < apart < moved / 100


def test_the_residual_of_the_last_averaged_update_is_added_to_the_next_until_the_release_is_installed(quick, tmp_path):
    settings, weights = with_compression(quick), build(quick.networks).weights()
    worker = make_workers(releases=tmp_path)[0]
    for number, averaged in ((1, {}), (2, {"worker-0": 1}), (3, {"worker-0": 1})):
        config = {"round": number, "run": "r", "averaged": averaged}
        update, without = (
            send(each, "train", settings, weights, **config)[1].weights for each in (worker, make_workers()[0])
        )
        same = all(np.array_equal(array, without[name]) for name, array in update.items())
        assert same == (number == 1), "the residual of round 1 is in the updates of the rounds after it"
    assert worker.state.residual(1)
    send(worker, "install", settings, weights, card={})
    assert worker.state.residual(1) == {}


def test_work_that_is_cancelled_leaves_the_residual_as_it_was(quick):
    settings, weights, worker = with_compression(quick), build(quick.networks).weights(), make_workers()[0]
    send(worker, "train", settings, weights, round=1, run="r", averaged={})
    rounds = dict(worker.state.rounds)
    steps = worker.handle("train", {"settings": to_mapping(settings), "round": 2, "run": "r"}, weights)
    assert isinstance(next(steps), Progress)
    steps.close()
    assert worker.state.rounds == rounds


@pytest.mark.parametrize("restarts", [False, True])
def test_a_trainer_that_dies_between_the_rounds_continues_with_its_local_layers_and_residual(quick, tmp_path, restarts):
    """Rounds 1, 2, 2 again (as after a resume) and 3, each perhaps by a new process; against rounds 1, 2, 3 of one."""
    federation = FederationConfig(rounds=3, merge="partial", compression="8-bit")
    settings = replace(quick, federation=federation, denoiser=replace(quick.denoiser, steps=6))
    weights = shared(plan_of("r", settings, Path("x")), build(settings.networks).weights())

    def done(workers, numbers):
        for number, worker in zip(numbers, workers, strict=True):
            averaged = {"worker-0": number - 1}
            yield number, send(worker, "train", settings, weights, round=number, run="r", averaged=averaged)[1].weights
        yield "own", send(worker, "denoiser", settings, weights, run="r")[1].weights

    def make_worker():
        return Worker(replace(make_workers()[0].config, state=tmp_path))

    expected = dict(done([make_workers()[0]] * 3, (1, 2, 3)))
    workers = [make_worker() for _ in range(4)] if restarts else [make_worker()] * 4
    for number, arrays in done(workers, (1, 2, 2, 3)):
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, expected[number][name], err_msg=f"{name} of round {number}")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["round-002.safetensors", "round-003.safetensors"]


def test_the_gaussians_are_those_of_the_embeddings_of_all_workers_training_images(federation, tiny_settings):
    workers, _, final, *_ = federation
    classifier, fitted = build(tiny_settings.networks, final).classifier, class_gaussians(final)
    described = [some(drain(worker.images(tiny_settings, {})).training, 300) for worker in workers]
    images, labels = torch.cat([part.images() for part in described]), torch.cat([part.labels for part in described])
    vectors = l2_normalised(classifier.embedding)(images)
    assert fitted.counts.tolist() == [int((labels == label).sum()) for label in range(3)]
    for label in range(3):
        members = vectors[labels == label]
        torch.testing.assert_close(fitted.means[label], members.mean(0), rtol=1e-4, atol=1e-4)
        by_hand = torch.cov(members.T, correction=0)
        torch.testing.assert_close(fitted.covariances[label], by_hand, rtol=2e-3, atol=1e-3)


def test_the_moments_of_accuracy_and_loss_are_the_evaluation(federation, tiny_settings):
    workers, _, final, moments, scale, _ = federation
    classifier = build(tiny_settings.networks, final).classifier
    for worker, sent in zip(workers, moments, strict=True):
        evaluated = evaluate(classifier, drain(worker.images(tiny_settings, {})).evaluation)
        assert sent["accuracy"]["mean"] == pytest.approx(evaluated.accuracy, rel=1e-6)
        assert sent["loss"]["mean"] == pytest.approx(evaluated.loss, rel=1e-5)
        assert sent["accuracy"]["count"] == evaluated.images
    everything = evaluate(classifier, drain(Worker(WorkerConfig("evaluator")).images(tiny_settings, {})).evaluation)
    assert scale["accuracy"]["mean"] == pytest.approx(everything.accuracy, rel=1e-6)
    assert scale["accuracy"]["count"] == everything.images


def test_scores_are_of_so_many_held_back_images_and_of_no_others(federation, tiny_settings):
    workers, _, final, moments, _, _ = federation
    detector = detectors(tiny_settings, build(tiny_settings.networks, final), final)["max-logit"]
    for worker, sent in zip(workers, moments, strict=True):
        assert {
            name: part["count"] for name, part in sent.items() if name not in ("accuracy", "loss")
        } == dict.fromkeys(("max-logit", "mahalanobis", "one-step", "lmd"), 60)
        possible = detector.score(drain(worker.images(tiny_settings, {})).held_back.images())
        nearest = (worker.scores.scores["max-logit"][:, None] - possible).abs().amin(1)
        assert nearest.max() < 1e-4


def test_thresholds_are_sketches_of_the_scores_and_of_their_sum_on_the_common_scale(federation, tiny_settings):
    workers, _, _, _, scale, sketches = federation
    common = {name: Moments(**scale[name]) for name in tiny_settings.detectors.verdict}
    for worker, sent in zip(workers, sketches, strict=True):
        assert set(sent) == {"max-logit", "mahalanobis", "one-step", "lmd", VERDICT, CLASS, EVALUATION}
        assert sent[CLASS] == vars(Sketch.of(worker.scores.losses))
        assert sent["lmd"] == vars(Sketch.of(worker.scores.scores["lmd"]))
        assert sent[VERDICT] == vars(Sketch.of(fuse(worker.scores.scores, common)))


def test_the_verdicts_scores_of_evaluation_images_come_as_a_sketch_and_of_no_other_score(federation, tiny_settings):
    workers, _, final, _, scale, sketches = federation
    networks = build(tiny_settings.networks, final).for_inference()
    by_name = detectors(tiny_settings, networks, final)
    for worker, sent in zip(workers, sketches, strict=True):
        chosen = some(drain(worker.images(tiny_settings, {})).evaluation, 60, tiny_settings.seed).images()
        assert set(worker.scores.evaluated) == set(tiny_settings.detectors.verdict)
        assert sent[EVALUATION]["count"] == 60
        scores = {name: by_name[name].score(chosen) for name in tiny_settings.detectors.verdict}
        fused = fuse(scores, {name: Moments(**scale[name]) for name in scores})
        np.testing.assert_allclose(sent[EVALUATION]["values"], Sketch.of(fused).values, rtol=1e-3, atol=1e-3)


def test_as_many_evaluation_images_as_held_back_ones_count_so_that_workers_count_alike(tmp_path, quick):
    paint(tmp_path / "train", {"0": 0, "1": 100, "2": 200}, 40)
    paint(tmp_path / "eval", {"0": 0, "1": 100, "2": 200}, 40)
    worker = Worker(WorkerConfig("w", DataConfig(source=str(tmp_path))))
    weights = build(quick.networks).weights()
    weights |= gaussians(send(worker, "sums", quick, weights)[1].weights)
    scale = send(worker, "moments", quick, weights)[1].metrics
    sent = send(worker, "thresholds", quick, moments=scale)[1].metrics
    assert (sent[VERDICT]["count"], sent[EVALUATION]["count"]) == (12, 12)
    assert {len(scores) for scores in worker.scores.evaluated.values()} == {quick.calibration.images} == {20}


def test_a_federations_card_says_whether_the_promise_is_kept_and_its_release_is_loaded(federation, tiny_settings):
    workers, _, final, moments, _, sketches = federation
    settings = replace(tiny_settings, image_size=28, channels=1)
    replies = [Reply(worker.config.name, sent) for worker, sent in zip(workers, sketches, strict=True)]
    gathered = {"moments": [Reply("s", sent) for sent in moments], "thresholds": replies}
    card = json.loads(json.dumps(finish_release(plan_of("r", settings, Path("x")), final, {}, gathered)))
    promise = card["calibration"]["promise"]
    assert (promise["images"], list(promise["workers"])) == (120, ["worker-0", "worker-1"])
    assert all(check["kept"] for check in (promise, *promise["workers"].values()))
    predictor = Predictor(Release("abc", card, final), "worker-0")
    assert set(predictor.choices) == {"max-logit", "mahalanobis", "one-step", "lmd", VERDICT}


def test_the_self_tests_findings_come_with_the_thresholds_and_are_the_same_at_all_workers(federation, tiny_settings):
    workers, _, final, _, scale, _ = federation
    replies = [send(worker, "thresholds", tiny_settings, moments=scale)[1] for worker in workers]
    assert dissenting([reply.weights for reply in replies]) == []
    networks = build(tiny_settings.networks, final).for_inference()
    by_name = detectors(tiny_settings, networks, final)
    images = to_unit_range(torch.from_numpy(patterns(1, 28)))
    expected = {name: by_name[name].score(images) for name in tiny_settings.detectors.verdict}
    fused = fuse(expected, {name: Moments(**scale[name]) for name in expected})
    with torch.inference_mode():
        outputs = {LOGITS: networks.classifier(images), **expected, VERDICT: fused}
    for reply in replies:
        assert reply.weights.keys() == outputs.keys()
        assert all(relative_difference(reply.weights[name], outputs[name].numpy()) < 1e-5 for name in outputs)


def test_a_worker_with_twenty_images_and_none_of_a_class_keeps_its_false_alarm_rate(tiny_settings, tiny_result):
    """Workers with 20 and 60 images, of which each lacks a label."""
    workers, moments = make_workers(), []
    for worker, images in zip(workers, (20, 60), strict=True):
        few = replace(tiny_settings, calibration=replace(tiny_settings.calibration, images=images))
        moments.append(send(worker, "moments", few, tiny_result.weights)[1].metrics)
    scale = pool_moments(moments)
    replies = [
        Reply(worker.config.name, send(worker, "thresholds", tiny_settings, moments=scale)[1].metrics)
        for worker in workers
    ]
    assert {sketch["count"] for sketch in replies[0].metrics.values()} == {20}
    settings = replace(tiny_settings, calibration=replace(tiny_settings.calibration, alpha=0.1))
    plan = plan_of("r", settings, Path("x"))
    gathered = {"moments": [Reply("s", sent) for sent in moments], "thresholds": replies}
    card = finish_release(plan, tiny_result.weights, {}, gathered)
    release = Release("abc", json.loads(json.dumps(card)), tiny_result.weights)
    for worker, reply in zip(workers, replies, strict=True):
        predictor = Predictor(release, worker.config.name)
        images = drain(worker.images(tiny_settings, {})).held_back.images(range(60))
        predictions = predictor.predict(images)
        assert predictions[0].threshold is not None
        # A tenth of 60, give or take four standard deviations of 20 images.
        assert sum(prediction.is_ood for prediction in predictions) <= 18
        sketch = Sketch.from_json(reply.metrics[VERDICT])
        factor = 1 + 10 / (sketch.count + 1)
        assert all(
            Reference.of_sketch(sketch).p_value(prediction.score) <= prediction.p_value * factor + 1e-9
            for prediction in predictions
        )


def test_a_release_of_the_workers_sketches_can_be_installed_at_a_worker(federation, tiny_settings):
    workers, _, final, _, scale, _ = federation
    common = {name: Moments(**scale[name]) for name in tiny_settings.detectors.verdict}
    fused = torch.cat([fuse(worker.scores.scores, common) for worker in workers])
    card = {
        "settings": to_mapping(tiny_settings),
        "calibration": {
            "alpha": 0.1,
            "moments": scale,
            "sketches": {VERDICT: vars(Sketch.of(fused)), CLASS: vars(Sketch.of(workers[0].scores.losses))},
        },
    }
    send(workers[0], "install", tiny_settings, final, card=card)
    folder = workers[0].config.releases
    predictor = Predictor(load_release(current_release(folder)))
    images = drain(workers[0].images(tiny_settings, {})).held_back.images(range(40))
    alarms = sum(prediction.is_ood for prediction in predictor.predict(images))
    assert predictor.choices == (VERDICT,)
    assert alarms <= 12  # a tenth of 40, give or take four standard deviations


def test_training_alone_gives_a_release_with_everything_in_its_card(tiny_result, tiny_settings):
    card = tiny_result.metrics["card"]
    assert card["settings"] == to_mapping(resolved(WorkerConfig("alone"), tiny_settings))
    assert set(card["calibration"]) == {"alpha", "moments", "sketches", "workers", "promise"}
    promise = PromiseCheck.from_json(card["calibration"]["promise"])
    assert (promise.images, promise.expected) == (60, tiny_settings.calibration.alpha)
    assert set(card["calibration"]["moments"]) == {"max-logit", "mahalanobis", "one-step", "lmd"}
    assert card["metrics"]["images"] == 980 + 1135 + 1032
    assert card["metrics"]["accuracy"] == tiny_result.metrics["accuracy"] > 0.6
    assert card["training"]["workers"] == ["alone"]
    single = {name for name, array in tiny_result.weights.items() if array.dtype == np.float32}
    assert single == {"gaussians.counts", "gaussians.means"}
    assert {str(array.dtype) for name, array in tiny_result.weights.items() if name not in single} == {"float16"}
    evaluated = evaluate(
        build(tiny_settings.networks, tiny_result.weights).classifier,
        drain(Worker(WorkerConfig("evaluator")).images(tiny_settings, {})).evaluation,
    )
    assert card["metrics"]["accuracy"] == pytest.approx(evaluated.accuracy)


@pytest.fixture
def quick(tiny_settings):
    """Hardly any steps, and the cheapest score alone."""
    return replace(
        tiny_settings,
        classifier=replace(tiny_settings.classifier, steps=3),
        denoiser=replace(tiny_settings.denoiser, steps=2),
        calibration=replace(tiny_settings.calibration, images=20),
    )


def paint(folder, shades, count=20):
    """A source of flat images, so many for each label, all different."""
    for label, shade in shades.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Image.new("L", (28, 28), shade + number).save(folder / label / f"{number}.png")


def test_training_alone_on_a_source_of_the_request_installs_its_release_and_leaves_no_image_behind(tmp_path, quick):
    paint(tmp_path / "data" / "flat" / "train", {"0": 0, "1": 90, "2": 180}, 66)
    paint(tmp_path / "data" / "flat" / "eval", {"0": 0, "1": 100, "2": 200})
    worker = Worker(WorkerConfig("alone", root=tmp_path / "data", releases=tmp_path / "releases"))
    drain(worker.images(quick, {}))
    progress, result = send(worker, "alone", quick, training="flat")
    assert [step.stage for step in progress] == ["classifier"] * 3 + ["denoiser"] * 2 + ["calibration"] * 2
    assert "card" not in result.metrics
    assert result.metrics["images"] == 60
    release = load_release(current_release(tmp_path / "releases"))
    assert release.id == result.metrics["release"]
    assert release.card["metrics"]["images"] == 60
    # A federation that comes next must get the worker's own images.
    assert len(drain(worker.images(quick, {})).evaluation) == 980 + 1135 + 1032


def test_a_worker_with_too_few_images_to_calibrate_with_is_refused_before_it_trains(tmp_path, quick):
    paint(tmp_path / "train", {"0": 0, "1": 100, "2": 200}, 5)
    paint(tmp_path / "eval", {"0": 0, "1": 100, "2": 200}, 5)
    worker, stages = Worker(WorkerConfig("ward", DataConfig(source=str(tmp_path)))), []
    work = worker.handle("train", {"settings": to_mapping(quick), "round": 1}, build(quick.networks).weights())
    with pytest.raises(DataError, match="ward has 15 images to train with, of which 0 are held back for calibration"):
        drain(work, stages.append)
    assert stages == []


def test_training_alone_is_refused_before_it_begins_where_too_few_images_are_held_back(tmp_path, quick):
    paint(tmp_path / "train", {"0": 0, "1": 100, "2": 190}, 60)
    paint(tmp_path / "eval", {"0": 0, "1": 100, "2": 200}, 5)
    config, stages = WorkerConfig("alone", DataConfig(source=str(tmp_path))), []
    with pytest.raises(DataError, match=r"there are 18 images to calibrate with, .* of 0.05 needs 19.*now 0\.1"):
        drain(train_alone(config, quick), stages.append)
    with pytest.raises(DataError, match="there are 18 images"):
        drain(certify(config, quick, build(quick.networks).weights()), stages.append)
    assert stages == []
    advised = replace(quick, calibration=replace(quick.calibration, alpha=0.053))
    assert drain(train_alone(config, advised)).metrics["card"]["calibration"]["promise"]["expected"] == 0.053


def test_a_single_image_to_evaluate_on_is_refused_before_training(tmp_path, quick):
    paint(tmp_path / "train", {"0": 0, "1": 90, "2": 180}, 66)
    paint(tmp_path / "eval", {"0": 0}, 1)
    worker, stages = Worker(WorkerConfig("ward", DataConfig(source=str(tmp_path)))), []
    work = worker.handle("train", {"settings": to_mapping(quick), "round": 1}, build(quick.networks).weights())
    with pytest.raises(DataError, match="and 1 to evaluate on; at least 2 of each are needed"):
        drain(work, stages.append)
    assert stages == []


def test_more_rounds_than_steps_leave_a_rounds_weights_as_they_were(quick):
    settings = replace(quick, federation=FederationConfig(rounds=10))
    weights = build(settings.networks).weights()
    progress, result = send(make_workers()[0], "train", settings, weights, round=1)
    assert [step.stage for step in progress] == ["evaluation"]
    assert all(np.array_equal(result.weights[name], array) for name, array in weights.items())


def test_the_rounds_share_out_all_steps_of_the_training(quick):
    settings = replace(
        quick, classifier=replace(quick.classifier, steps=7), federation=FederationConfig(rounds=3, min_workers=1)
    )
    weights, worker = build(settings.networks).weights(), make_workers()[0]
    counts = [
        sum(step.stage == "classifier" for step in send(worker, "train", settings, weights, round=number)[0])
        for number in (1, 2, 3)
    ]
    assert sum(counts) == 7
    assert max(counts) - min(counts) <= 1


def test_fedprox_keeps_closer_to_the_global_weights(quick):
    settings = replace(quick, classifier=replace(quick.classifier, steps=40, low_precision=False))
    images = drain(make_workers()[0].images(settings, {}))
    moved = []
    for mu in (0.0, 100.0):
        networks, start = build(settings.networks), build(settings.networks).weights()
        list(fit_part("classifier", networks, images, settings, range(40), seed=0, mu=mu))
        moved.append(sum(np.square(array - start[name]).sum() for name, array in networks.weights().items()))
    assert 0 < moved[1] < moved[0] / 4


@pytest.mark.parametrize("part", PARTS)
def test_only_the_part_that_is_trained_changes_and_the_global_random_state_does_not(quick, part):
    networks, before, state = build(quick.networks), build(quick.networks).weights(), torch.get_rng_state()
    steps = list(fit_part(part, networks, drain(make_workers()[0].images(quick, {})), quick, range(2), seed=3))
    assert [(step.stage, step.done, step.total) for step in steps] == [(part, 1, 2), (part, 2, 2)]
    changed = {n.partition(".")[0] for n, array in networks.weights().items() if not np.array_equal(array, before[n])}
    assert changed == {part}
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unknown_action_is_refused(quick):
    with pytest.raises(ValueError, match="unknown action 'dance'; a worker can train, calibrate and install"):
        send(make_workers()[0], "dance", quick)


def test_thresholds_need_moments_first(quick):
    with pytest.raises(ValueError, match="query its moments first"):
        send(make_workers()[0], "thresholds", quick, moments={})


def test_a_worker_without_a_folder_refuses_a_release(quick):
    with pytest.raises(ValueError, match="has no folder for releases"):
        send(make_workers()[0], "install", quick, {"a": np.zeros(1)}, card={})


def test_weights_of_other_networks_are_refused_before_anything_is_trained(quick):
    with pytest.raises(ValueError, match="do not fit the classifier"):
        send(make_workers()[0], "train", quick, build(quick.with_labels(("0", "1")).networks).weights(), round=1)


def test_weights_are_certified_as_training_alone_would(tiny_result, tiny_settings):
    result = drain(certify(WorkerConfig("alone"), tiny_settings, tiny_result.weights))
    card = tiny_result.metrics["card"]
    assert result.metrics == {key: card[key] for key in ("calibration", "metrics", "self_test")}


def test_a_process_reads_from_its_environment_which_worker_it_is(monkeypatch, tmp_path, quick):
    described = {
        "name": "client",
        "settings": {"data": {"partition": {"kind": "labels", "workers": 2, "lists": LISTS}}},
        "worker": 1,
        "root": str(tmp_path),
        "releases": str(tmp_path / "releases"),
        "state": str(tmp_path / "state"),
    }
    monkeypatch.setenv(WORKER, json.dumps(described))
    handle = build_handler()
    weights = build(quick.networks).weights()
    result = drain(handle("train", {"settings": to_mapping(quick), "round": 1}, weights))
    expected = send(make_workers()[1], "train", quick, weights, round=1)[1]
    assert all(np.array_equal(array, expected.weights[name]) for name, array in result.weights.items())


@pytest.mark.parametrize(
    "described", [None, "", "{}", '{"name": "a", "settings": {"data": {"sauce": 1}}, "worker": 0}']
)
def test_an_environment_that_describes_no_worker_is_refused(monkeypatch, described):
    monkeypatch.delenv(WORKER, raising=False)
    if described is not None:
        monkeypatch.setenv(WORKER, described)
    with pytest.raises(SettingsError, match="the variable FEDLMD_WORKER_CONFIG does not describe a worker"):
        build_handler()


def test_a_classifier_of_four_views_learns_from_turned_images_and_classifies_upright_ones(tiny_settings):
    """As ``fedlmd train`` has it by default: label and view together, small distortions."""
    default = Settings().classifier
    run = replace(
        tiny_settings,
        models=replace(tiny_settings.models, views=4),
        classifier=replace(tiny_settings.classifier, steps=300, augmentation=default.augmentation),
    )
    assert Settings().networks.classifier.views == 4
    images, networks = WorkerConfig("alone").images(run), build(run.networks)
    untrained = evaluate(networks.classifier, images.evaluation)
    *_, last = fit_part("classifier", networks, images, run, range(300), seed=0)
    trained = evaluate(networks.classifier, images.evaluation)
    assert last.metrics["loss"] < 0.6 * math.log(3 * 4)  # of a guess among all labels and views
    assert trained.accuracy > 0.9 > untrained.accuracy
