import json
from dataclasses import replace

import pytest
import torch

from benchmarks.ablation import AblationBench, command_of, measure, summed, task_of, two_stages
from benchmarks.markdown import ablation_table
from benchmarks.scores import Scores, load_scores
from benchmarks.tasks import TASKS, images_of
from benchmarks.variants import variants
from fedlmd.detection import separation
from fedlmd.inference.predictor import Predictor
from fedlmd.progress import Progress, drain
from fedlmd.release import VERDICT, load_release, save_release
from fedlmd.settings import DIGITS, Settings, to_mapping
from fedlmd.worker.alone import certify

COUNT = 4


@pytest.fixture(scope="module")
def calibrated(small_release, small_settings, few, tmp_path_factory):
    """The small release with images enough for a p-value of 0.01."""
    settings = replace(small_settings, calibration=replace(small_settings.calibration, images=150))
    old = load_release(small_release)
    result = drain(certify(few, settings, old.weights))
    card = {"settings": to_mapping(settings), "training": {}, **result.metrics}
    return save_release(tmp_path_factory.mktemp("releases"), card, old.weights)


@pytest.fixture(scope="module")
def measured(calibrated, tmp_path_factory):
    output = tmp_path_factory.mktemp("ablation")
    steps = []
    result = drain(measure(AblationBench(str(calibrated), COUNT), output), steps.append)
    return output, steps, result


def test_every_variant_is_in_the_result_which_json_and_the_table_take(measured, small_settings):
    _, steps, result = measured
    again = json.loads(json.dumps(result))
    names = {(of["group"], of["variant"]) for of in again["rows"]}
    assert len(names) == len(again["rows"])
    wanted = {(f"{of.score}: {of.choice}", of.value) for of in variants(small_settings.detector) if of.choice}
    assert wanted | {("verdict", "mahalanobis + one-step"), ("stages", "two: lmd where in doubt")} <= names
    assert len(again["figures"]) == len(names) + 3
    assert again["images"] == {"known": COUNT, "unknown": COUNT}
    assert "| verdict | mahalanobis |" in ablation_table({"ablation": again})
    assert all(isinstance(step, Progress) for step in steps)
    for stage in ("one-step", "lmd", "two stages"):
        told = [step for step in steps if step.stage == stage]
        assert [step.done for step in told] == sorted(step.done for step in told)
        assert told[-1].done == told[-1].total


def test_the_defaults_are_what_the_release_itself_says(measured, calibrated):
    _, _, result = measured
    predictor = Predictor(load_release(calibrated))
    parts = images_of(next(task for task in TASKS if task.name == "01234"), {}, sample=COUNT)
    for score in ("one-step", "lmd", VERDICT):
        known, unknown = (predictor.scores(images.images(), [score])[score] for images in parts)
        rows = [of for of in result["rows"] if of["group"].split(":")[0] == score and of["default"]]
        assert rows
        for row in rows:
            assert row["auroc"] == pytest.approx(separation(known, unknown).auroc, abs=0.01)
            assert row["difference"] == row["error"] == 0


def test_costs_are_those_of_the_variants(measured):
    nfe = {(of["group"], of["variant"]): of["nfe"] for of in measured[2]["rows"]}
    assert nfe["one-step: levels", "0.5"] == 1
    assert nfe["lmd: steps", "16"] == 32
    assert nfe["lmd: reconstructions", "10"] == 20
    assert nfe["verdict", "mahalanobis"] == 0
    assert nfe["verdict", "mahalanobis + one-step + lmd"] == 3 + 4


def test_two_stages_cost_what_their_second_looks_do(measured, calibrated):
    _, _, result = measured
    stages = two_stages(Predictor(load_release(calibrated)))
    parts = images_of(next(task for task in TASKS if task.name == "01234"), {}, sample=COUNT)
    evaluated = [stages.both_stages(part.images()) for part in parts]
    figures = result["figures"]
    assert figures["nfe_two_stages"] == pytest.approx(
        3 + sum(2 * float(of.drawn.double().mean()) for of in evaluated) / 2
    )
    for kind, of in zip(("known", "unknown"), evaluated, strict=True):
        assert figures[f"second_stage_{kind}"] == pytest.approx(float((of.drawn > 0).double().mean()))


def test_a_second_run_scores_nothing_and_says_the_same(measured, calibrated):
    output, _, result = measured
    files = {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")}
    again = drain(measure(AblationBench(str(calibrated), COUNT), output))
    assert again["rows"] == result["rows"]
    assert again["figures"] == result["figures"]
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.npz")} == files


def test_a_run_that_was_stopped_keeps_what_it_has(calibrated, tmp_path):
    steps = measure(AblationBench(str(calibrated), 4), tmp_path)
    first = tmp_path / "scores" / "one-step-levels-0.5.npz"
    for _ in steps:
        if first.exists():
            break
    steps.close()
    assert load_scores(first) is not None
    assert not list(tmp_path.rglob("*.part"))


def test_a_sum_is_on_the_scale_of_the_card(predictor):
    scale = predictor.scale
    found = {
        name: Scores(torch.tensor([scale[name].mean]), torch.tensor([scale[name].mean + 2 * scale[name].std]), 1, 2, 3)
        for name in ("max-logit", "one-step")
    }
    whole = summed(("max-logit", "one-step"), found, predictor)
    assert whole.known.item() == pytest.approx(0, abs=1e-3)
    assert whole.unknown.item() == pytest.approx(4, abs=1e-3)
    assert (whole.seconds, whole.gflop, whole.evaluations) == (2, 4, 6)


def test_the_task_is_the_known_digits_against_all_others():
    task = task_of(Settings(labels=tuple("352")))
    assert (task.labels, task.unknown) == (tuple("352"), tuple("0146789"))
    for labels in (DIGITS, ("0", "cat")):
        with pytest.raises(ValueError, match="some of the digits 0 to 9 and no others"):
            task_of(Settings(labels=labels))


def test_the_command_says_what_was_asked_for_and_no_path(tmp_path):
    assert command_of(AblationBench()) == "python -m benchmarks ablation --images 300"
    assert command_of(AblationBench("digits-0-9", 7)) == "python -m benchmarks ablation --release digits-0-9 --images 7"
    assert command_of(AblationBench(str(tmp_path), 7)) == "python -m benchmarks ablation --release FOLDER --images 7"
    with pytest.raises(ValueError, match="sample is 1"):
        AblationBench(sample=1)
