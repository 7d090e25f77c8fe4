"""``python -m benchmarks NAME``: every measurement is a command."""

from __future__ import annotations

import typer

from benchmarks.commands.ablation import ablation
from benchmarks.commands.accuracy import accuracy
from benchmarks.commands.data import data
from benchmarks.commands.demo import demo
from benchmarks.commands.detection import detection
from benchmarks.commands.faults import faults
from benchmarks.commands.infer import infer
from benchmarks.commands.merge import merge
from benchmarks.commands.photos import photos
from benchmarks.commands.scale import scale
from benchmarks.commands.tables import tables
from benchmarks.commands.verdict import verdict
from fedlmd.cli import run

app = typer.Typer(
    name="python -m benchmarks",
    help="Measure the figures of README and docs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (detection, verdict, ablation, merge, faults, scale, data, infer, photos, demo, accuracy, tables):
    app.command()(command)


def main() -> None:
    """Run a command; what a user can mend is one line on standard error and exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
