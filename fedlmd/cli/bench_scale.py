"""The command ``fedlmd bench scale``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedlmd.bench import scale
from fedlmd.bench.markdown import scale_table
from fedlmd.bench.plots import memory_picture
from fedlmd.bench.scale import ScaleBench
from fedlmd.cli.options import CORES, JsonFile, Threads
from fedlmd.cli.show import console, watched, write

__all__ = ["scale_command"]


def scale_command(
    output: Annotated[Path, typer.Option(help="Folder for what each part measured; what is there is used.")] = Path(
        "bench-output/scale"
    ),
    part: Annotated[
        list[str] | None, typer.Option(help=f"Only this part, of {', '.join(scale.PARTS)}; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Workers of the simulated round.", min=1)] = 1000,
    picture: Annotated[Path | None, typer.Option(help="Draw the server's memory into this PNG file.")] = None,
    threads: Threads = CORES,
    json_file: JsonFile = Path("benchmarks/scale.json"),
) -> None:
    """Measure the server's memory, a round of many simulated workers, and a round's overhead beside Flower's own."""
    if unknown := sorted(set(part or ()) - set(scale.PARTS)):
        raise ValueError(f"there is no part {unknown[0]!r}; there are {', '.join(scale.PARTS)}")
    config = ScaleBench(output, workers, threads, tuple(part or scale.PARTS))
    for result in watched(scale.measure(config)):
        out = Console(highlight=False, soft_wrap=True)
        if "memory" in result:
            out.print(scale_table({"scale": result}))
        out.print("\n".join(f"{name} {value:g}" for name, value in result["figures"].items()))
        write(result, json_file)
        if picture is not None and "memory" in result:
            picture.write_bytes(memory_picture(result["memory"]))
            console().print(f"picture {picture}")
