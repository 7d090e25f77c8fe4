import json

from typer.testing import CliRunner

from benchmarks.__main__ import app
from tests.benchmarks.test_markdown import PAGE, result  # noqa: F401 - a fixture


def tables(*arguments):
    done = CliRunner().invoke(app, ["tables", *(str(argument) for argument in arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stderr


def test_a_page_is_rewritten_in_place_and_then_left(tmp_path, result):  # noqa: F811 - as above
    (tmp_path / "page.md").write_text(PAGE)
    (tmp_path / "result.json").write_text(json.dumps(result))
    options = ("--page", tmp_path / "page.md", "--json", tmp_path / "result.json")
    assert "has new tables" in tables(*options)
    once = (tmp_path / "page.md").read_text()
    assert "0.9600" in once
    assert "is up to date" in tables(*options)
    assert (tmp_path / "page.md").read_text() == once


def test_pages_that_are_not_there_are_skipped(tmp_path, result, monkeypatch):  # noqa: F811 - as above
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert tables("--json", tmp_path / "result.json").strip() == "README.md has new tables"
