"""``python -m benchmarks merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.commands.options import RESULTS, Pictures
from benchmarks.markdown import merge_table
from benchmarks.merge import MergeBench, measure
from benchmarks.merge_plot import merge_picture
from benchmarks.merges import FEDERATIONS, METHODS, Budget
from benchmarks.plots import check_matplotlib
from fedlmd.cli.options import JsonFile, Threads
from fedlmd.cli.show import console_beside, watched, write


def merge(  # noqa: PLR0913, PLR0917 - one argument for each option
    output: Annotated[Path, typer.Option(help="Folder for runs and figures; what is there is used.")] = Path(
        "bench-output/merge"
    ),
    federation: Annotated[
        list[str] | None, typer.Option(help=f"Only this one of {', '.join(FEDERATIONS)}; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"Only this one of {', '.join(METHODS)}; may be repeated.")
    ] = None,
    classifier_steps: Annotated[int, typer.Option(help="Gradient steps of all workers together.", min=1)] = 1000,
    denoiser_steps: Annotated[int, typer.Option(help="Gradient steps of all workers together.", min=1)] = 1200,
    images: Annotated[int, typer.Option(help="So many known and so many unknown test images.", min=2)] = 600,
    expensive: Annotated[int, typer.Option(help="So many of them by LMD.", min=2)] = 100,
    pictures: Pictures = None,
    threads: Threads = 1,
    json_file: JsonFile = RESULTS / "merge.json",
) -> None:
    """Measure which merge of the workers' denoisers makes the best detector; when stopped, it can be continued."""
    torch.set_num_threads(threads)
    if pictures is not None:
        check_matplotlib()
    budget = Budget(classifier_steps, denoiser_steps)
    config = MergeBench(budget, tuple(federation or FEDERATIONS), tuple(method or ()), images, expensive)
    result = watched(measure(config, output))
    console_beside(json_file).print(merge_table({"merge": result}), markup=False)
    write(result, json_file)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / "merge.png").write_bytes(merge_picture(result))
