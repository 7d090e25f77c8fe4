import json

import pytest
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.cli.bench import pairs
from tests.bench.test_markdown import PAGE, result  # noqa: F401 - a fixture


def run(*arguments, code=0):
    done = CliRunner().invoke(app, ["bench", *(str(argument) for argument in arguments)])
    assert done.exit_code == code, (done.output, done.exception)
    return done


def test_help_names_every_benchmark():
    said = run("--help").stdout
    verbs = ("rounds", "accuracy", "demo", "detection", "verdict", "ablation", "merge", "faults", "scale", "tables")
    for verb in verbs:
        assert verb in said


def test_tables_rewrites_a_page_in_place_and_then_leaves_it(tmp_path, result):  # noqa: F811 - as above
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "result.json").write_text(json.dumps(result))
    order = ("tables", "--page", tmp_path / "page.md", "--json", tmp_path / "result.json")
    assert "has new tables" in run(*order).stderr
    once = (tmp_path / "page.md").read_text()
    assert "0.9600" in once
    assert "is up to date" in run(*order).stderr
    assert (tmp_path / "page.md").read_text() == once


def test_names_and_paths_are_taken_apart():
    assert [(name, str(path)) for name, path in pairs(["usps=a/b=c.npz", "x=pretrained"])] == [
        ("usps", "a/b=c.npz"),
        ("x", "pretrained"),
    ]
    assert pairs(None) == []
    for wrong in ("usps", "usps=", "=file"):
        with pytest.raises(ValueError, match="is not NAME=PATH"):
            pairs([wrong])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "cifar=x.npz"], "no task has a data set 'cifar'"),
        (["--release", "digits=pretrained"], "no task has a release 'digits'"),
        (["--data", "fashion"], "is not NAME=PATH"),
    ],
)
def test_wrong_names_are_said_before_anything_is_measured(arguments, sentence, tmp_path):
    done = run("detection", "--output", tmp_path, "--threads", 1, *arguments, code=1)
    assert sentence in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_quick_run_prints_and_writes_its_figures(tmp_path):
    said = run("detection", "--quick", "--output", tmp_path, "--images", 30, "--threads", 1).stdout
    figures = json.loads((tmp_path / "detection.json").read_text())["figures"]
    assert f"{figures['auroc_01234']:.4f}" in said
    assert figures["auroc_01234"] > 0.9
