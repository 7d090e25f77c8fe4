"""``python -m benchmarks scale``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.commands.options import RESULTS
from benchmarks.markdown import scale_table
from benchmarks.plots import memory_picture
from benchmarks.scale import PARTS, ScaleBench, measure
from fedlmd.cli.options import CORES, JsonFile, Threads
from fedlmd.cli.show import console, console_beside, plain, watched, write


def scale(
    output: Annotated[Path, typer.Option(help="Folder for the result of each part; what is there is used.")] = Path(
        "bench-output/scale"
    ),
    part: Annotated[
        list[str] | None, typer.Option(help=f"Only this part, of {', '.join(PARTS)}; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Workers of the simulated round.", min=1)] = 1000,
    picture: Annotated[Path | None, typer.Option(help="Draw the server's memory into this PNG file.")] = None,
    threads: Threads = CORES,
    json_file: JsonFile = RESULTS / "scale.json",
) -> None:
    """Measure the server's memory, a round of many simulated workers, and a round's overhead beside Flower's own."""
    if unknown := sorted(set(part or ()) - set(PARTS)):
        raise ValueError(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    result = watched(measure(ScaleBench(output, workers, threads, tuple(part or PARTS))))
    out = console_beside(json_file)
    if "memory" in result:
        out.print(scale_table({"scale": result}))
    out.print("\n".join(f"{name} {value:g}" for name, value in result["figures"].items()))
    write(result, json_file)
    if picture is not None and "memory" in result:
        picture.write_bytes(memory_picture(result["memory"]))
        console().print(f"picture {plain(picture)}")
