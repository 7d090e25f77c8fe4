"""``python -m benchmarks photos``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.commands.options import RESULTS
from benchmarks.photos import PhotosConfig, measure
from fedlmd.cli.options import JsonFile
from fedlmd.cli.show import console_beside, watched, write


def photos(
    data: Annotated[list[str], typer.Option(help="NAME=FOLDER, for sign, cifar, tiles and imagenet; repeatable.")],
    output: Annotated[Path, typer.Option(help="Folder of releases and of the results of each task.")] = Path(
        "runs/photos"
    ),
    limit: Annotated[int, typer.Option(help="Training images of each class of CIFAR-10.", min=10)] = 650,
    task: Annotated[list[str] | None, typer.Option(help="Only these tasks; repeatable.")] = None,
    threads: Annotated[int, typer.Option(help="Of torch.", min=1)] = 1,
    json_file: JsonFile = RESULTS / "photos.json",
) -> None:
    """Measure detection on photographs beside rivals on the same encoder. A stopped measurement continues."""
    torch.set_num_threads(threads)
    folders = dict(each.split("=", 1) for each in data)
    config = PhotosConfig({name: Path(folder) for name, folder in folders.items()}, output, limit, tuple(task or ()))
    result = watched(measure(config))
    console_beside(json_file).print(result["figures"])
    write(result, json_file)
