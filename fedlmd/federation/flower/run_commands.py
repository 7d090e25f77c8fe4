"""Flower's command line: submits, stops and looks up runs; a run's folder holds Flower's id of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from fedlmd.federation.flower.processes import EngineError, program

LINK = "fedlmd"
"""The name of the server's connection in Flower's configuration."""
RUN_FILE = "flower.json"
# Timeout of Flower's command line, which usually takes 2 seconds, on a busy machine. A run could still start after its
# submission had timed out.
COMMAND_SECONDS = 180.0


@dataclass(frozen=True)
class RunStatus:
    """The status of a run by Flower.

    Args:
        status: "pending", "starting", "running", "finished:completed", "finished:failed" or "finished:stopped".
        details: its reason, or "".
    """

    status: str
    details: str = ""

    @property
    def finished(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.status.startswith("finished")


@final
class RunCommands:
    """Calls Flower's command line.

    Args:
        home: the node's folder, in which the commands run.
        environment: the whole environment of the commands.
    """

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.home, self.environment = home, dict(environment)

    def submit(self, run_dir: Path, app: Path) -> str:
        """Start the run whose plan is in a folder; returns Flower's id for it. Raises EngineError."""
        run_dir = run_dir.absolute()
        # A file, because Flower's parser of settings on the command line fails at quotation marks in a path. JSON's
        # strings are TOML's basic strings.
        settings = run_dir / "flower.toml"
        settings.write_text(f"run-dir = {json.dumps(str(run_dir), ensure_ascii=False)}\n", encoding="utf-8")
        output = self.call("run", str(app), LINK, "--run-config", str(settings))
        run_id = str(output["run-id"])
        (run_dir / RUN_FILE).write_text(json.dumps({"run-id": run_id}) + "\n", encoding="utf-8")
        return run_id

    def stop(self, run_id: str) -> None:
        """Stop a run. Raises EngineError."""
        self.call("stop", run_id, LINK)

    def status(self, run_dir: Path) -> RunStatus:
        """The status of the run in a folder. Raises EngineError."""
        runs = self.call("ls", LINK, "--run-id", read_run_id(run_dir))["runs"]
        if not runs:
            raise EngineError(f"Flower does not know the run in {run_dir}")
        return RunStatus(str(runs[0]["status"]), str(runs[0].get("status-details") or ""))

    def call(self, *arguments: str) -> dict[str, Any]:
        """Run Flower's command line and read the JSON that it prints. Raises EngineError."""
        try:
            done = subprocess.run(
                [program("flwr"), *arguments, "--format", "json"],
                env=self.environment,
                cwd=self.home,
                capture_output=True,
                text=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
            output: dict[str, Any] = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise EngineError(f"flwr {arguments[0]} returned no result ({error})") from None
        if not output.get("success", False):
            raise EngineError(f"flwr {arguments[0]} failed: {output.get('error-message', done.stderr.strip())}")
        return output


def read_run_id(run_dir: Path) -> str:
    """Flower's id of the run in a folder. Raises EngineError when it was never submitted."""
    try:
        return str(json.loads((run_dir / RUN_FILE).read_text(encoding="utf-8"))["run-id"])
    except FileNotFoundError:
        raise EngineError(f"the run in {run_dir} was not submitted") from None


def has_run_id(run_dir: Path) -> bool:
    """Whether the run in a folder was submitted."""
    return (run_dir / RUN_FILE).exists()


def forget_run_id(run_dir: Path) -> None:
    """Remove Flower's id of a run before it is submitted again, so that no old status is read for it."""
    (run_dir / RUN_FILE).unlink(missing_ok=True)
