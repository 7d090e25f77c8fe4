"""``python -m benchmarks tables``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import RESULTS
from benchmarks.markdown import results_at, rewritten
from fedlmd.cli.show import console, plain

PAGES = ("README.md", "docs/results.md")


def tables(
    page: Annotated[
        list[Path] | None,
        typer.Option(help=f"A page whose marked tables are made anew; {' and '.join(PAGES)} without it."),
    ] = None,
    json_file: Annotated[
        Path,
        typer.Option("--json", help="Result of the command detection; those of other commands are in the same folder."),
    ] = RESULTS / "detection.json",
) -> None:
    """Bring the tables of README and docs up to date with what was measured."""
    results = results_at(json_file)
    for path in page or [Path(name) for name in PAGES if Path(name).exists()]:
        old = path.read_text(encoding="utf-8")
        new = rewritten(old, results)
        if new != old:
            path.write_text(new, encoding="utf-8")
        console().print(f"{plain(path)} {'has new tables' if new != old else 'is up to date'}")
