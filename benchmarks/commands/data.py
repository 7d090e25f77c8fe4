"""``python -m benchmarks data``."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.commands.options import RESULTS
from benchmarks.data import measure
from fedlmd.cli.options import JsonFile
from fedlmd.cli.show import console_beside, watched, write


def data(
    source: Annotated[str, typer.Argument(help="A folder of image files, such as CIFAR-10 unpacked.")],
    few: Annotated[int, typer.Option(help="Images of the part that all are compared with.", min=10)] = 1000,
    json_file: JsonFile = RESULTS / "data.json",
) -> None:
    """Measure the seconds and memory of looking at a folder of images and of loading it."""
    result = watched(measure(source, few))
    out = console_beside(json_file)
    for row in result["rows"]:
        out.print(
            f"{row['work']:<6}{row['images']:>8,} images {row['seconds']:>8.1f} s, "
            f"{row['cpu_seconds']:.1f} s of processors, {row['peak_mib']:,} MiB at most, {row['before_mib']:,} before"
        )
    write(result, json_file)
