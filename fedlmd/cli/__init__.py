"""The command line: ``fedlmd --help``.

The commands import what they need when they run, so that every ``--help`` is fast.
"""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

from fedlmd.cli import cluster, data, export, infer, interchange, local, simulate, workers

__all__ = ["app", "main"]

app = typer.Typer(
    help="Federated image classification that knows what it does not know.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def print_version(asked: bool) -> None:
    """Print the versions of the package and of Flower, and exit."""
    if asked:
        from importlib.metadata import version

        typer.echo(f"fedlmd {version('fedlmd')} (Flower {version('flwr')})")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""


app.add_typer(data.data_app, name="data")
for command in (
    cluster.demo,
    local.train,
    local.calibrate,
    local.evaluate,
    infer.infer,
    export.export,
    cluster.serve,
    cluster.federate,
    simulate.simulate,
    cluster.log,
    cluster.drift,
    workers.workers,
):
    app.command()(command)
app.command("export-denoiser")(interchange.export_denoiser)


def main() -> None:
    """Run the command line. An error that the user can mend is one line on standard error and exit status 1."""
    run(app)


def run(commands: typer.Typer) -> None:
    """Run commands as ``main`` does; for other command lines, such as that of the benchmarks."""
    try:
        commands()
    except KeyboardInterrupt:
        fail("stopped")
    except Exception as error:
        if not mendable(error):
            raise
        if isinstance(error, OSError) and error.filename and error.strerror:
            fail(f"{error.filename} cannot be read or written: {error.strerror}")
        fail(str(error))


def mendable(error: Exception) -> bool:
    """Whether the user can mend it: the package's own errors, wrong values, errors of the system; others are bugs."""
    return isinstance(error, OSError | ValueError) or type(error).__module__.startswith("fedlmd.")


def fail(sentence: str) -> NoReturn:
    """Exit with status 1 and one line on standard error."""
    from fedlmd.cli.show import error_line

    error_line(sentence)
    sys.exit(1)
