import json
from dataclasses import replace

import pytest
import torch

from benchmarks import detection
from benchmarks.cost import CostConfig
from benchmarks.detection import DetectionBench, command_of, measure, release_of, scores_file, taking_part
from benchmarks.results import PREDICTION
from benchmarks.scores import load_scores
from benchmarks.tasks import TASKS, images_of
from fedlmd.detection import separation
from fedlmd.inference.predictor import Predictor
from fedlmd.models import DenoiserConfig
from fedlmd.progress import Progress, drain
from fedlmd.release import PRETRAINED_FOLDER, VERDICT, list_releases, load_release
from fedlmd.settings import Settings

CHEAP = CostConfig(images=4, matrix=32, repeats=1, reference=DenoiserConfig(8, 1, widths=(8,), patch=1))
BY_NAME = {task.name: task for task in TASKS}


@pytest.fixture(scope="module")
def quick(small_release, cheap_baselines):
    return DetectionBench(
        releases={"digits-0-4": small_release},
        sample=8,
        in_domain=12,
        cost=CHEAP,
        baselines=cheap_baselines,
        quick=True,
    )


@pytest.fixture(scope="module")
def measured(quick, tmp_path_factory):
    output = tmp_path_factory.mktemp("bench")
    steps = []
    result = drain(measure(quick, output), steps.append)
    return output, steps, result


def test_a_quick_run_measures_the_one_task(measured):
    _, steps, result = measured
    assert set(result["tasks"]) == {"01234"}
    assert result["command"] == "python -m benchmarks detection --quick --release digits-0-4=FOLDER --images 8"
    assert {"auroc_01234", "auroc_01234_lmd", "release_mib", "sgemm_fraction"} <= set(result["figures"])
    assert "lmd-paper" not in result["tasks"]["01234"]["detectors"]
    assert json.loads(json.dumps(result)) == result
    told = [step for step in steps if step.stage == "01234"]
    assert [step.done for step in told] == sorted(step.done for step in told)
    assert told[-1].done == told[-1].total


def test_the_figures_are_those_of_the_scores_that_are_kept(measured, small_release):
    output, _, result = measured
    predictor = Predictor(load_release(small_release))
    known, unknown = images_of(BY_NAME["01234"], {}, sample=8)
    scores = [predictor.scores(images.images(), [VERDICT])[VERDICT] for images in (known, unknown)]
    there = load_scores(scores_file(output, "01234", VERDICT))
    assert torch.allclose(there.known, scores[0], atol=1e-3)
    assert result["figures"]["auroc_01234"] == separation(there.known, there.unknown).auroc
    predicted = load_scores(scores_file(output, "01234", PREDICTION)).known
    assert result["tasks"]["01234"]["verdict"]["accuracy"] == float((predicted == known.labels).double().mean())
    assert PREDICTION not in result["tasks"]["01234"]["detectors"]


def test_a_second_run_scores_nothing_and_says_the_same(measured, quick):
    output, _, result = measured
    files = {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")}
    again = drain(measure(quick, output))
    assert again["tasks"] == result["tasks"]
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")} == files


def test_a_run_that_was_stopped_loses_one_detector_at_most(quick, tmp_path):
    steps = measure(quick, tmp_path)
    kinds = ("one-step", "max-logit")
    for step in steps:
        if all(scores_file(tmp_path, "01234", name).exists() for name in kinds):
            assert isinstance(step, Progress)
            break
    steps.close()
    left = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(left) >= 2
    assert not list(tmp_path.rglob("*.part"))
    result = drain(measure(quick, tmp_path))
    assert all(path.stat().st_mtime_ns == time for path, time in left.items())
    assert VERDICT in result["tasks"]["01234"]["detectors"]


def test_scores_of_other_images_are_made_anew(measured, quick):
    output, _, _ = measured
    path = scores_file(output, "01234", "max-logit")
    before = path.read_bytes()
    result = drain(measure(replace(quick, sample=6), output))
    assert result["tasks"]["01234"]["detectors"]["max-logit"]["known"] == 6
    path.write_bytes(before)


def test_a_release_is_trained_once_and_calibrated_anew_for_other_thresholds(small_settings, few, tmp_path):
    config = DetectionBench(small_settings, load=few.load)
    task = BY_NAME["0123-459"]
    first = drain(release_of(task, config, tmp_path))
    assert first.card["settings"]["labels"] == ["0", "1", "2", "3"]
    assert drain(release_of(task, config, tmp_path)).id == first.id
    rate = replace(small_settings.calibration, alpha=0.2)
    other = drain(release_of(task, replace(config, settings=replace(small_settings, calibration=rate)), tmp_path))
    assert other.card["calibration"]["alpha"] == 0.2
    assert other.card["calibrated_from"] == first.id
    assert all((other.weights[name] == of).all() for name, of in first.weights.items())
    seed = drain(release_of(task, replace(config, settings=replace(small_settings, seed=1)), tmp_path))
    assert "calibrated_from" not in seed.card
    assert len(list_releases(tmp_path / "releases" / "digits-0-3")) == 3


def test_held_back_images_are_those_that_calibration_had(predictor):
    held = detection.held_back(predictor, 25)
    assert len(held) == 25
    assert held.names == predictor.settings.labels


def test_names_that_nothing_has_are_refused(small_release):
    with pytest.raises(ValueError, match="there is no task 'cifar'"):
        DetectionBench(tasks=("cifar",))
    with pytest.raises(ValueError, match="no task has a release 'digits'"):
        DetectionBench(releases={"digits": small_release})
    with pytest.raises(ValueError, match="sample is 0"):
        DetectionBench(sample=0)


def test_a_release_of_other_digits_is_refused(small_release, tmp_path):
    config = DetectionBench(releases={"digits-0-3": small_release}, tasks=("0123-459",), sample=2)
    with pytest.raises(ValueError, match="needs a release of 0, 1, 2, 3"):
        list(measure(config, tmp_path))


def test_nothing_to_measure_is_said_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="nothing to measure: usps was left out"):
        list(measure(DetectionBench(tasks=("usps",)), tmp_path))


def test_the_command_says_what_was_asked_for_and_no_path(tmp_path):
    asked = DetectionBench(
        tasks=("01234", "usps"),
        data={"usps": tmp_path / "usps.npz"},
        releases={"digits-0-4": PRETRAINED_FOLDER, "digits-0-9": tmp_path},
        sample=7,
    )
    assert command_of(asked) == (
        "python -m benchmarks detection --task 01234 --task usps --release digits-0-4=pretrained "
        "--release digits-0-9=FOLDER --data usps=FILE --images 7"
    )
    assert command_of(DetectionBench(quick=True)) == "python -m benchmarks detection --quick"
    other = DetectionBench(Settings(seed=1), quick=True)
    assert command_of(other) == "python -m benchmarks detection --quick --settings FILE"


def test_known_digits_in_another_hand_are_scored_by_the_verdict_alone(predictor):
    (task,) = (task for task in TASKS if task.same_classes)
    assert set(taking_part(task, predictor, DetectionBench(in_domain=40))) == {VERDICT, PREDICTION}
