"""``python -m benchmarks infer``."""

from __future__ import annotations

from typing import Annotated

import typer

from benchmarks.commands.options import RESULTS
from benchmarks.infer import measure
from fedlmd.cli.options import CORES, JsonFile, Threads
from fedlmd.cli.show import console_beside, watched, write


def infer(
    images: Annotated[int, typer.Option(help="Image files, a multiple of 10.", min=10)] = 1000,
    repeats: Annotated[int, typer.Option(help="Measurements of each.", min=1)] = 5,
    threads: Threads = CORES,
    json_file: JsonFile = RESULTS / "infer.json",
) -> None:
    """Measure images per second of ``fedlmd infer`` on files, beside the model's own on pixels in memory."""
    result = watched(measure(images, repeats, threads))
    figures = result["figures"]
    console_beside(json_file).print(
        f"fedlmd infer {figures['infer_images_per_second']} images/s, "
        f"the model alone {figures['model_images_per_second']}: {figures['ratio']:.0%}"
    )
    write(result, json_file)
