"""``python -m benchmarks verdict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.commands.options import RESULTS, DataFiles, Images, Pictures, pairs
from benchmarks.markdown import federations_table, words_table
from benchmarks.plots import check_matplotlib, rates_picture
from benchmarks.verdict import HEADLINE, VerdictBench, measure
from fedlmd.cli.options import CORES, JsonFile, Threads
from fedlmd.cli.show import console, console_beside, plain, watched, write
from fedlmd.release import SHIPPED


def verdict(  # noqa: PLR0913, PLR0917 - one argument for each option
    output: Annotated[Path, typer.Option(help="Folder for scores, tables and pictures; what is there is used.")] = Path(
        "bench-output/verdict"
    ),
    data: DataFiles = None,
    release: Annotated[
        str, typer.Option(help="A release's folder, or 'pretrained' for the shipped one.")
    ] = "pretrained",
    seeds: Annotated[int, typer.Option(help="Federations that are drawn of each kind.", min=1)] = 20,
    images: Images = None,
    pictures: Pictures = None,
    threads: Threads = CORES,
    json_file: JsonFile = RESULTS / "verdict.json",
) -> None:
    """Measure whether the chosen rate of false alarms holds at every worker; when stopped, it can be continued."""
    torch.set_num_threads(threads)
    if pictures is not None:
        check_matplotlib()
    config = VerdictBench(SHIPPED.get(release, Path(release)), dict(pairs(data)), seeds, images)
    result = watched(measure(config, output))
    tables = f"{federations_table({'trust': result})}\n{words_table({'trust': result})}"
    (output / "verdict.md").write_text(tables, encoding="utf-8")
    console_beside(json_file).print(tables, markup=False)
    console().print("\n".join([*result["notes"], f"the tables are in {plain(output / 'verdict.md')}"]))
    write(result, json_file)
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / "false-alarms.png").write_bytes(rates_picture(result["federations"], HEADLINE))
