"""``python -m benchmarks accuracy``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.accuracy import measure
from benchmarks.commands.options import RESULTS
from fedlmd.cli.options import JsonFile
from fedlmd.cli.show import console_beside, watched, write


def accuracy(
    output: Annotated[Path, typer.Option(help="Folder for the cluster's homes.")] = Path("bench-output"),
    json_file: JsonFile = RESULTS / "accuracy.json",
) -> None:
    """Measure the classifier of two workers that share all ten digits."""
    result = watched(measure(output))
    share, seconds = result["figures"]["accuracy_iid_ten_digits"], result["figures"]["seconds_of_rounds"]
    console_beside(json_file).print(f"accuracy {share:.4f} on {result['images']} images after {seconds:.0f} s")
    write(result, json_file)
