"""The command that measures merges of the sites' denoisers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from fedlmd.bench import merge, plots
from fedlmd.bench.markdown import merge_table
from fedlmd.bench.merge import MergeBench
from fedlmd.bench.merge_plot import merge_picture
from fedlmd.bench.merges import FEDERATIONS, METHODS, Budget
from fedlmd.cli.options import JsonFile, Threads
from fedlmd.cli.show import watched, write

__all__ = ["merge_command"]


def merge_command(
    output: Annotated[Path, typer.Option(help="Folder for runs and figures; what is there is used.")] = Path(
        "bench-output/merge"
    ),
    federation: Annotated[
        list[str] | None, typer.Option(help=f"Only this one of {', '.join(FEDERATIONS)}; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"Only this one of {', '.join(METHODS)}; may be repeated.")
    ] = None,
    classifier_steps: Annotated[int, typer.Option(help="Gradient steps of all sites together.", min=1)] = 1000,
    denoiser_steps: Annotated[int, typer.Option(help="Gradient steps of all sites together.", min=1)] = 1200,
    images: Annotated[int, typer.Option(help="So many known and so many unknown test images.", min=2)] = 600,
    dear: Annotated[int, typer.Option(help="So many of them by LMD.", min=2)] = 100,
    pictures: Annotated[Path | None, typer.Option(help="Folder for merge.png.")] = None,
    threads: Threads = 1,
    json_file: JsonFile = Path("benchmarks/merge.json"),
) -> None:
    """Measure which merge of the sites' denoisers makes the best detector; can be stopped and goes on."""
    torch.set_num_threads(threads)
    if pictures is not None:
        plots.figure(1.0, 1.0)  # says what is missing now, not after hours
    budget = Budget(classifier_steps, denoiser_steps)
    config = MergeBench(budget, tuple(federation or FEDERATIONS), tuple(method or ()), images, dear)
    for result in watched(merge.measure(config, output)):
        Console(highlight=False, soft_wrap=True).print(merge_table({"merge": result}), markup=False)
        write(result, json_file)
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            (pictures / "merge.png").write_bytes(merge_picture(result))
