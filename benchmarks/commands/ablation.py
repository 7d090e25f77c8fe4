"""``python -m benchmarks ablation``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.ablation import DEFAULT, AblationBench, measure
from benchmarks.commands.options import RESULTS
from benchmarks.markdown import ablation_table
from fedlmd.cli.options import CORES, JsonFile, Threads
from fedlmd.cli.show import console, console_beside, plain, watched, write


def ablation(
    output: Annotated[Path, typer.Option(help="Folder for scores and the table; what is there is used.")] = Path(
        "bench-output/ablation"
    ),
    release: Annotated[
        str, typer.Option(help="A release's folder, or a shipped one's name; it knows some digits, not all.")
    ] = DEFAULT,
    images: Annotated[int, typer.Option(help="So many images of each kind.", min=2)] = 300,
    threads: Threads = CORES,
    json_file: JsonFile = RESULTS / "ablation.json",
) -> None:
    """Measure what each choice of the detector gains, one varied at a time; when stopped, it can be continued."""
    torch.set_num_threads(threads)
    result = watched(measure(AblationBench(release, images), output))
    table = ablation_table({"ablation": result})
    (output / "ablation.md").write_text(table, encoding="utf-8")
    console_beside(json_file).print(table, markup=False)
    figures = result["figures"]
    shares = [f"{figures[f'second_stage_{kind}']:.1%} of the {kind} images" for kind in ("known", "unknown")]
    console().print(
        f"two stages: the second scored {' and '.join(shares)}; the table is in {plain(output)}/ablation.md"
    )
    write(result, json_file)
