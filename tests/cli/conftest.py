"""What the tests of commands that work on files share."""

import pytest
from PIL import Image
from typer.testing import CliRunner

from fedlmd.cli import app
from fedlmd.data import load


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a command in an empty folder, on one core; its exit status must be the expected one."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, status=0, stdin=None):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
        assert result.exit_code == status, (result.output, result.exception)
        return result

    return run


@pytest.fixture
def seven(tmp_path):
    """An image file of a digit that the shipped release of 0 to 4 does not know."""
    Image.fromarray(load("mnist", "eval", labels=["7"]).pixels[0, 0].numpy()).save(tmp_path / "seven.png")
    return tmp_path / "seven.png"
