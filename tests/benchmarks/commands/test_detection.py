import json

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app


def detection(*arguments, code=0):
    done = CliRunner().invoke(app, ["detection", *(str(argument) for argument in arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "cifar=x.npz"], "no task has a data set 'cifar'"),
        (["--release", "digits=pretrained"], "no task has a release 'digits'"),
        (["--data", "fashion"], "is not NAME=PATH"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_measured(arguments, sentence, tmp_path):
    done = detection("--output", tmp_path, "--threads", 1, *arguments, code=1)
    assert sentence in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_quick_run_prints_and_writes_its_figures(tmp_path):
    printed = detection("--quick", "--output", tmp_path, "--images", 30, "--threads", 1).stdout
    figures = json.loads((tmp_path / "detection.json").read_text())["figures"]
    assert f"{figures['auroc_01234']:.4f}" in printed
    assert figures["auroc_01234"] > 0.9
