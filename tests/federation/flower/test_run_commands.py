import json
import os
import stat
import sys
import tomllib

import pytest

from fedlmd.federation.flower import run_commands
from fedlmd.federation.flower.processes import EngineError
from fedlmd.federation.flower.run_commands import RunCommands, forget_run_id, has_run_id, read_run_id


@pytest.fixture
def flwr(tmp_path, monkeypatch):
    """A program in place of Flower's command line: it writes its arguments to a file and prints ``output.json``."""
    program, output = tmp_path / "flwr", tmp_path / "output.json"
    program.write_text(f"""#!{sys.executable}
import json, pathlib, sys
pathlib.Path({str(tmp_path / "arguments.json")!r}).write_text(json.dumps(sys.argv[1:]))
print(pathlib.Path({str(output)!r}).read_text())
""")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setattr(run_commands, "program", lambda name: str(tmp_path / name))
    return output


def test_a_run_is_submitted_with_its_folder_and_its_id_is_kept_there(tmp_path, flwr):
    flwr.write_text('{"success": true, "run-id": 7}')
    folder = tmp_path / 'a "quoted" run'
    folder.mkdir()
    assert not has_run_id(folder)
    assert RunCommands(tmp_path, os.environ).submit(folder, tmp_path / "app") == "7"
    assert (has_run_id(folder), read_run_id(folder)) == (True, "7")
    assert tomllib.loads((folder / "flower.toml").read_text()) == {"run-dir": str(folder)}
    arguments = json.loads((tmp_path / "arguments.json").read_text())
    assert arguments[:2] == ["run", str(tmp_path / "app")]
    assert arguments[-4:] == ["--run-config", str(folder / "flower.toml"), "--format", "json"]
    forget_run_id(folder)
    with pytest.raises(EngineError, match="was not submitted"):
        read_run_id(folder)


def test_the_status_of_a_run_is_that_which_flower_lists(tmp_path, flwr):
    (tmp_path / "flower.json").write_text('{"run-id": "7"}')
    flwr.write_text('{"success": true, "runs": [{"status": "finished:failed", "status-details": null}]}')
    status = RunCommands(tmp_path, os.environ).status(tmp_path)
    assert (status.status, status.details, status.finished) == ("finished:failed", "", True)
    flwr.write_text('{"success": true, "runs": []}')
    with pytest.raises(EngineError, match="Flower does not know the run"):
        RunCommands(tmp_path, os.environ).status(tmp_path)


@pytest.mark.parametrize(
    ("output", "words"),
    [('{"success": false, "error-message": "no such run"}', "flwr stop failed: no such run"), ("no JSON", "no result")],
)
def test_a_command_that_fails_is_an_error_with_the_reason(tmp_path, flwr, output, words):
    flwr.write_text(output)
    with pytest.raises(EngineError, match=words):
        RunCommands(tmp_path, os.environ).stop("7")
