"""The command line as a whole: its help, its imports and its errors."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from fedlmd.cli import app, fail, main, mendable, run
from fedlmd.federation.plan import NotWritten
from fedlmd.release import ReleaseError
from fedlmd.service.client import NodeError

COMMANDS = (
    *("demo", "data", "train", "calibrate", "evaluate", "infer", "serve", "federate", "workers", "simulate", "log"),
    "drift",
    "export",
    "export-denoiser",
)

HELP = """
import json, sys
from typer.testing import CliRunner
from fedlmd.cli import app
commands = [[], *([name] for name in json.loads(sys.argv[1])), ["data", "export"], ["data", "show"]]
results = [CliRunner().invoke(app, [*command, "--help"]) for command in commands]
assert all(result.exit_code == 0 and "Usage" in result.output for result in results), results
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_help_names_every_command():
    result = CliRunner().invoke(app, ["--help"]).stdout
    for name in COMMANDS:
        assert name in result
    assert {command.name or command.callback.__name__ for command in app.registered_commands} | {"data"} == {*COMMANDS}


def test_the_help_of_every_command_imports_nothing_that_is_slow():
    process = subprocess.run(
        [sys.executable, "-c", HELP, json.dumps(COMMANDS)], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr
    loaded = set(json.loads(process.stdout))
    assert "fedlmd" in loaded
    assert not loaded & {"torch", "flwr", "fastapi", "uvicorn", "numpy", "PIL", "ray", "safetensors", "httpx"}


def test_the_version_is_one_line_with_flowers():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"fedlmd {version('fedlmd')} (Flower {version('flwr')})\n"


ERROR = """
import json, sys
import fedlmd.cli
try:
    fedlmd.cli.fail("a sentence")
except SystemExit as ended:
    print(json.dumps([ended.code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_an_error_line_and_the_version_import_nothing_that_is_slow():
    command = [sys.executable, "-c", ERROR]
    code, loaded = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
    assert code == 1
    assert not set(loaded) & {"torch", "flwr", "fastapi", "uvicorn", "PIL", "ray", "httpx"}


def test_an_error_is_one_line_whatever_names_it_holds(capsys):
    with pytest.raises(SystemExit):
        fail("no [red]image[/] at \x1b[2Ja\u202eb\n\udcff")
    assert capsys.readouterr().err == r"error: no [red]image[/] at \x1b[2Ja\u202eb\n\udcff" + "\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["infer", "nowhere", "x.png"], "nowhere is not a release"),
        (["infer", "pretrained", "missing.png"], "missing.png"),
        (["evaluate", "pretrained", "--ood", "nowhere"], "there is no data at"),
        (["train", "--settings", "missing.toml"], "there is no settings file"),
        (["train", "--settings", "wrong.toml"], "wrong.toml, line 2: federation.round: there is no such key; [federa"),
        (["federate", "--server", "http://127.0.0.1:1"], "no node answers"),
        (["serve", "--role", "boss"], "it is server or worker"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_status_1(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text("[federation]\nround = 3")
    monkeypatch.setattr("sys.argv", ["fedlmd", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("seed is -1"),
        NodeError("no node answers"),
        ReleaseError("it is damaged"),
        NotWritten("make room"),
        OSError("No space left on device"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_wrong_values_own_errors_and_those_of_the_system_are_one_line_and_status_1(error, capsys):
    assert mendable(error)
    with pytest.raises(SystemExit) as ended:
        run(raising(error))
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_file_that_cannot_be_read_or_written_is_named_without_a_number(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fedlmd", "infer", "digits-0-4", "--from", str(tmp_path)])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == f"error: {tmp_path} cannot be read or written: Is a directory\n"


@pytest.mark.parametrize("error", [RuntimeError("of torch"), KeyError("name"), ZeroDivisionError()], ids=repr)
def test_errors_of_other_code_are_bugs_and_show_their_trace(error):
    assert not mendable(error)
    with pytest.raises(type(error)) as raised:
        run(raising(error))
    assert raised.value is error


def test_an_interrupted_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as ended:
        run(raising(KeyboardInterrupt()))
    assert (ended.value.code, capsys.readouterr().err) == (1, "error: stopped\n")


def test_an_error_is_shown_word_for_word_brackets_too(capsys):
    with pytest.raises(SystemExit):
        fail("curves need tensorboardX: pip install 'fedlmd[tensorboard]'")
    assert capsys.readouterr().err == "error: curves need tensorboardX: pip install 'fedlmd[tensorboard]'\n"


def raising(error):
    """Commands that raise an error."""

    def commands():
        raise error

    return commands
